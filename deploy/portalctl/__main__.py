"""`python3 -m deploy.portalctl COMMAND`: what the Makefile calls."""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from deploy.portalctl import down, places, services, testrun, up
from deploy.portalctl.commands import become_root
from deploy.portalctl.places import Places
from deploy.portalctl.run_as import run_as
from deploy.portalctl.terminal import Stop, explain, progress

_WHY_ROOT = {
    "up": "packages, libvirt, and a Unix user each for web and worker",
    "down": "to stop what `make up` started",
    "clean": "to remove what `make up` made",
    "image": "building a root file system",
    "test": "packages, libvirt and guests",
    "test-slow": "packages, libvirt and guests",
    "bench": "packages, libvirt and guests",
    "logs": "the services' logs are not for everybody",
    "run-as": "to change the Unix user",
}


def main(argv: Sequence[str]) -> int:
    """Run one command; answer its exit code."""
    command, arguments = (argv[0] if argv else ""), list(argv[1:])
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if command in _WHY_ROOT:
            become_root([sys.executable, "-B", "-m", "deploy.portalctl", *argv], why=_WHY_ROOT[command])
        return _dispatch(command, arguments, places.locate())
    except Stop as stop:
        explain(command, stop)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; running it again picks up where this stopped\n")
        return 130


def _dispatch(command: str, arguments: list[str], where: Places) -> int:
    match command:
        case "run-as":
            run_as(
                where,
                arguments[0] if arguments else "",
                arguments[1:] if arguments[1:2] != ["--"] else arguments[2:],
            )
        case "up" | "down" | "clean" | "image":
            with _alone(where):
                {"up": up.up, "down": down.down, "clean": down.clean, "image": _image}[command](where)
        case "lint":
            testrun.lint(where)
        case "test" | "test-slow" | "bench":
            with _alone(where, name="test"):
                if command == "bench":
                    return testrun.bench(where, arguments)
                return testrun.test(where) if command == "test" else testrun.test_slow(where)
        case "logs":
            os.execvp("tail", ["tail", "-n", "200", "-F", str(services.log_file(where))])  # noqa: S606
        case _:
            raise Stop(f"there is no command {command!r}", todo="`make help` lists them")
    return 0


def _image(where: Places) -> None:
    up.prepare(where, "run")


@contextmanager
def _alone(where: Places, *, name: str = "portal") -> Iterator[None]:
    """One such command at a time in one checkout; a second one waits. Locks die with their process."""
    with (where.checkout / "Makefile").open() as makefile, (where.checkout / "Procfile").open() as procfile:
        lock = procfile if name == "test" else makefile
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting", "another command is at work in this checkout")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Treat SIGTERM like Ctrl-C, so that every `finally` runs and no service is left behind."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
