"""`deploy/run-as ROLE -- COMMAND…`: the role's environment and nothing else, the role's Unix user and
nobody else's rights.
"""

import os
import pwd
from collections.abc import Sequence
from typing import NoReturn

from deploy.portalctl import environments
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import Stop

# Files that web and worker share (the database) are for both users and for nobody else.
UMASK = 0o007


_RIGHTS = {"egress": "net_admin"}
"""The one role that keeps a right: its packet filter is the wall behind the guests' proxy."""


def dropped(command: Sequence[str], user: str | None, right: str = "") -> list[str]:
    """The command, run by `user` with that user's groups, no capability but `right`, no way to gain any."""
    if user is None:
        return list(command)
    account = pwd.getpwnam(user)
    drop = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--init-groups"]
    kept = [f"--inh-caps=-all,+{right}", f"--ambient-caps=-all,+{right}"] if right else ["--inh-caps=-all"]
    return ["setpriv", *drop, *kept, "--no-new-privs", "--", *command]


def run_as(places: Places, role: str, command: Sequence[str]) -> NoReturn:
    """Become the command. Never returns."""
    if role not in environments.ROLES:
        raise Stop(f"there is no role {role!r}", todo=f"use one of {', '.join(environments.ROLES)}")
    if not command:
        raise Stop("no command given", todo="deploy/run-as ROLE -- COMMAND…")
    try:
        environ = environments.load(places, role)
        user = environments.user_of(places, role)
    except OSError as error:
        raise Stop(
            f"cannot read {role}'s environment: {error}", todo="run `make up` first, as root"
        ) from error
    if "TERM" in os.environ and role == "manage":
        environ["TERM"] = os.environ["TERM"]
    os.umask(UMASK)
    argv = dropped(command, user, _RIGHTS.get(role, ""))
    os.execvpe(argv[0], argv, environ)  # noqa: S606 - a list, no shell
