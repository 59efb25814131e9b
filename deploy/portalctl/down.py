"""`make down` stops what `make up` started; `make clean` removes every trace of it."""

import shutil
from contextlib import suppress
from pathlib import Path

from deploy.portalctl import egress, environments, libvirtd, redis, services, users, venv, walls
from deploy.portalctl.commands import streamed
from deploy.portalctl.manage import manage
from deploy.portalctl.places import SYSTEM_STATE, Places
from deploy.portalctl.terminal import Stop, progress, say, warn

LANES = ("", "gw0", "gw1")
"""The fleets of a test run: its own, and one for each of its processes (tests/lanes.py)."""

_CACHES = (
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    ".import_linter_cache",
    "staticfiles",
    "static-built",
)


def down(places: Places) -> None:
    """Stop services, guests, Redis and libvirtd, each only if `make up` started it."""
    if not places.state.exists():
        say("Nothing to stop: there is no state directory.")
        return
    _stop_services(places)
    _stop_guests(places)
    _stop_daemons(places)
    say("Down. `make up` starts the portal and the demo tenant; staff start the other runtimes.")


def clean(places: Places) -> None:
    """Remove every trace.

    The fleet goes first: its id, kept in the state directory, is what finds its objects.
    """
    if places.state.exists():
        _stop_services(places)
        purge(places, places.state)
        for lane in LANES:
            purge(places, places.test, lane)
        walls.release(places)
        _stop_daemons(places)
    _remove_files(places)
    users.release(places)
    with suppress(OSError):  # Not there, or another checkout's state is still in it.
        SYSTEM_STATE.rmdir()
    say("Clean. The system packages stay; `deploy/packages.txt` lists them.")


def purge(places: Places, folder: Path, lane: str = "") -> None:
    """Remove all libvirt objects of the fleet whose id is in `folder`, with no help from the database."""
    if not (folder / "fleet-id").exists():
        return
    uri, fleet = environments.libvirt_uri(), _fleet(folder, lane)
    if not places.python.exists():
        venv.ensure(places, "run")
    libvirtd.ensure(places, uri)
    progress("fleet", f"removing every domain, volume, network and filter of {fleet}")
    code, _ = streamed(purge_command(places, folder, lane), cwd=places.checkout, dated=True)
    if code != 0:
        raise Stop(
            f"the fleet {fleet} could not be removed entirely, so its state is kept",
            todo="read the lines above, mend that, and run `make clean` again",
        )


def purge_command(places: Places, folder: Path, lane: str = "") -> list[str]:
    """The command that removes the fleet of `folder`: the portal's own, or the tests' (of one lane)."""
    pool = folder / "volumes" if folder == places.state else folder / "state" / lane / "volumes"
    fleet, uri = _fleet(folder, lane), environments.libvirt_uri()
    return [
        str(places.python),
        "-m",
        "provisioning.purge",
        "--fleet",
        fleet,
        "--uri",
        uri,
        "--pool",
        str(pool),
    ]


def _fleet(folder: Path, lane: str) -> str:
    """As tests/lanes.py names it."""
    return environments.fleet_id(folder) + lane.replace("gw", "x")


def _stop_services(places: Places) -> None:
    progress("services", "stopped" if services.stop(places) else "none ran")
    egress.release(places)


def _stop_guests(places: Places) -> None:
    if not (
        places.python.exists() and places.database.exists() and libvirtd.reachable(environments.libvirt_uri())
    ):
        return
    progress("guests", "shutting down")
    try:
        manage(places, "fleet_stop", dated=True)
    except Stop as failure:
        # A guest that will not stop must not keep the rest from stopping.
        warn("guests", failure.what)


def _stop_daemons(places: Places) -> None:
    redis.stop(places)
    libvirtd.stop(places, environments.libvirt_uri())


def _remove_files(places: Places) -> None:
    local = places.checkout / "var"
    if local.is_symlink():
        local.unlink()
    for path in (places.state, places.venv, *(places.checkout / name for name in _CACHES)):
        if path.exists():
            shutil.rmtree(path)
    for cache in places.checkout.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)
