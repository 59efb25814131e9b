"""Django's management commands, run by the operator: as the invoking user, in the `manage` environment."""

from deploy.portalctl import environments
from deploy.portalctl.commands import streamed
from deploy.portalctl.places import Places
from deploy.portalctl.run_as import UMASK
from deploy.portalctl.terminal import Stop


def manage(places: Places, *arguments: str, dated: bool = False, todo: str = "") -> str:
    """Run `manage.py …` and show what it says as it says it. Answers the output; stops if it fails.

    The output is never logged: `demo_people` prints passwords."""
    argv = [str(places.python), "manage.py", *arguments]
    environ = environments.load(places, "manage")
    code, said = streamed(argv, cwd=places.checkout, env=environ, umask=UMASK, dated=dated)
    if code != 0:
        raise Stop(
            f"`manage.py {' '.join(arguments)}` ended with code {code}",
            todo=todo or "read its last lines above, mend that, and run this again",
        )
    return said
