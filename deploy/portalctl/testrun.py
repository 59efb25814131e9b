"""`make test`, `make test-slow`, `make lint` and `make bench`: the same preparation as `make up`, then checks
against private services.
"""

import base64
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from deploy.portalctl import down, environments, packages, pools, postgres, redis, up, venv
from deploy.portalctl import places as places_module
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import Stop, progress

# Each linter by the name that people know it under.
_LINTERS: tuple[tuple[str, list[str]], ...] = (
    ("ruff check", ["-m", "ruff", "check", "."]),
    ("ruff format", ["-m", "ruff", "format", "--check", "."]),
    ("mypy", ["-m", "mypy", "."]),
    ("import-linter", ["-c", "from importlinter.cli import lint_imports_command as c; c()"]),
    ("makemigrations --check", ["manage.py", "makemigrations", "--check", "--dry-run"]),
)


# The rooms that lock, race and trigger. The kill matrix and the pages run once, on SQLite.
_ON_POSTGRESQL = (
    *("tests/audit", "tests/tenants", "tests/provisioning", "tests/breakglass"),
    *("-m", "not guest and not browser and not matrix and not slow"),
)


# Two processes, a file at a time; each with its own state, fleet and networks (tests/lanes.py).
_IN_LANES = ("-p", "tests.lanes", "-n", str(len(down.LANES) - 1), "--dist", "loadfile")


_QUICK = ("-m", "not slow")
_SLOW = ("-m", "slow")


def lint(places: Places) -> None:
    """Packages, environment and linters; needs no service."""
    places_module.prepare(places)
    packages.ensure(places, ["run"])
    venv.ensure(places, "dev")
    _lint(places, os.environ | _lint_environment(places))


def test(places: Places) -> int:
    """Linters, then the tests: on PostgreSQL those that use the database, on SQLite all but the slow tier.

    Pytest has the last word.
    """
    up.prepare(places, "dev")
    with _services(places) as environ:
        _lint(places, environ)
        pytest = [str(places.python), "-m", "pytest", *_IN_LANES]
        with postgres.Private(places.test) as url:
            progress("tests", "on PostgreSQL: what uses the database")
            first = _run(places, [*pytest, "-q", *_ON_POSTGRESQL], environ | {"DATABASE_URL": url})
        verdict = "passed" if first == 0 else f"FAILED (code {first}), so this run fails whatever follows"
        progress("tests", f"on PostgreSQL: {verdict}")
        progress("tests", "on SQLite: everything but the slow tier")
        second = _run(places, [*pytest, *_QUICK], environ)
    venv.give_back(places)
    return first or second


def test_slow(places: Places) -> int:
    """Tests that take minutes each: one after another, for they start guests that use the whole machine."""
    up.prepare(places, "dev")
    with _services(places) as environ:
        progress("tests", "the slow tier")
        code = _run(places, [str(places.python), "-m", "pytest", *_SLOW], environ)
    venv.give_back(places)
    return code


def bench(places: Places, arguments: Sequence[str]) -> int:
    """`python -m bench` against the same services, then `python -m bench.audit` on a durable PostgreSQL.

    The word `audit` before all arguments: the latter alone. Other arguments: the former alone."""
    up.prepare(places, "dev")
    record_only = arguments[:1] == ["audit"]
    with _services(places) as environ:
        code = 0 if record_only else _run(places, [str(places.python), "-m", "bench", *arguments], environ)
        if record_only or not arguments:
            with postgres.Private(places.test, durable=True) as url:
                measure = [str(places.python), "-m", "bench.audit", *arguments[1:]]
                code = _run(places, measure, environ | {"DATABASE_URL": url}) or code
        return code


def environment(places: Places, redis_url: str) -> dict[str, str]:
    """What the tests are told: nothing of the running portal but its images and its hypervisor."""
    state = places.test / "state"
    fleet = environments.fleet_id(places.test)
    return {
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "PORTAL_ROLE": "manage",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "PORTAL_WRAPPING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "PORTAL_CONTEXT_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "PORTAL_ROUTE_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "DATABASE_URL": f"sqlite:///{state}/db/portal.sqlite3",
        "REDIS_URL": redis_url,
        "LIBVIRT_URI": environments.libvirt_uri(),
        "PORTAL_STATE_DIR": str(state),
        "PORTAL_IMAGES_DIR": str(places.images),
        "PORTAL_POOL_DIR": str(state / "volumes"),
        "PORTAL_FLEET_ID": fleet,
        "PORTAL_BASE_URL": "http://portal.localhost:8000",
        # Not the running portal's: two bridges with one address would take each other's packets.
        "PORTAL_NETWORK_POOL": pools.passing(fleet),
    }


@contextmanager
def _services(places: Places) -> Iterator[dict[str, str]]:
    """A Redis and a fleet id of our own.

    What a killed run left in libvirt goes first; what this one leaves, at its end.
    """
    _prepare_folder(places)
    _purge(places)
    with redis.Private(places.test) as url:
        try:
            yield os.environ | environment(places, url)
        finally:
            _purge(places, quietly=True)


def _prepare_folder(places: Places) -> None:
    state = places.test / "state"
    for folder in (state / "db", state / "test", state / "volumes"):
        folder.mkdir(parents=True, exist_ok=True)
    (state / "volumes").chmod(0o711)
    if not (state / "images").is_symlink():
        (state / "images").symlink_to(places.images)


def _purge(places: Places, *, quietly: bool = False) -> None:
    """Remove the test fleet.

    Quiet at the end of a run, so that pytest's summary stays the last thing printed.
    """
    for lane in down.LANES:
        if quietly:
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    down.purge_command(places, places.test, lane),
                    cwd=places.checkout,
                    capture_output=True,
                    timeout=120,
                    check=False,
                )
            continue
        try:
            down.purge(places, places.test, lane)
        except Stop as failure:
            progress("tests", f"NOTE: {failure.what}")


def _lint(places: Places, environ: Mapping[str, str]) -> None:
    """Run every linter, so that one run shows all there is to mend."""
    failed = []
    for name, argv in _LINTERS:
        progress("lint", name)
        if _run(places, [str(places.python), *argv], environ) != 0:
            failed.append(name)
    if failed:
        raise Stop(
            f"lint failed: {', '.join(failed)}",
            todo="mend what they name above; `make format` does the layout",
        )


def _lint_environment(places: Places) -> dict[str, str]:
    return {"PORTAL_STATE_DIR": str(places.test / "state"), "DATABASE_URL": "sqlite://:memory:"}


def _run(places: Places, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run in the foreground with our own input and output, so that pytest knows its terminal."""
    process = subprocess.Popen(argv, cwd=places.checkout, env=environ)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
