"""What somebody with the whole database in their hands does: the superuser, or the owner of SQLite's file."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from audit import triggers
from deploy.portalctl.postgres import programs
from tests.audit.postgresql import connect


def tamper(*statements: str, parameters: tuple[Any, ...] = ()) -> None:
    """Switch the triggers off, change what you like, and put them back, so that nobody sees it by them."""
    triggers.remove(connection)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA ignore_check_constraints = ON")
            for statement in statements:
                cursor.execute(statement, parameters or None)
    finally:
        triggers.install(connection)


def flipped(data: bytes, bit: int = 0) -> bytes:
    """The same with one bit changed."""
    at = bit // 8 % len(data)
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :]


@contextmanager
def switched(name: str) -> Iterator[None]:
    """Django works in another database of the same server."""
    ours = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = ours


def backed_up(to: Path) -> Callable[[], None]:
    """Make a backup as an operator does; what is answered restores it."""
    return _BACKUPS[connection.vendor](to)


def _postgresql(to: Path) -> Callable[[], None]:
    name = str(connection.settings_dict["NAME"])
    _run("pg_dump", "--format=custom", f"--file={to}", name)

    def restore() -> None:
        connection.close()
        with connect("postgres") as server:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
            server.execute(f'CREATE DATABASE "{name}"'.encode())
        _run("pg_restore", "--exit-on-error", f"--dbname={name}", str(to))

    return restore


def _run(program: str, *arguments: str) -> None:
    given = connection.settings_dict
    place = {
        "PGHOST": given["HOST"],
        "PGPORT": given["PORT"],
        "PGUSER": given["USER"],
        "PGPASSWORD": given["PASSWORD"],
    }
    environment = os.environ | {key: str(value) for key, value in place.items() if value}
    subprocess.run([str(programs() / program), *arguments], env=environment, check=True, timeout=120)


def _sqlite(to: Path) -> Callable[[], None]:
    name = Path(str(connection.settings_dict["NAME"]))
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(name, to)

    def restore() -> None:
        connection.close()
        for leftover in (f"{name}-wal", f"{name}-shm"):
            Path(leftover).unlink(missing_ok=True)
        shutil.copy(to, name)

    return restore


_BACKUPS = {"postgresql": _postgresql, "sqlite": _sqlite}
