"""A PostgreSQL cluster for one run: its own directory, port and password; fast and forgetful, or durable."""

import os
import pwd
import secrets
import shutil
from pathlib import Path

from deploy.portalctl.commands import answers, is_root, logged
from deploy.portalctl.redis import free_port
from deploy.portalctl.run_as import dropped
from deploy.portalctl.terminal import Stop

_STAGE = "PostgreSQL"
# For tests, speed over safety: the cluster does not outlive the run. Measurements want a server as it is.
_FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"


class Private:
    """`with Private(folder) as url`: a running server, gone afterwards."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        """``durable``: what is committed is on disk, as in production."""
        self._folder = folder / "postgres"
        self._options = "-c max_connections=200" + ("" if durable else f" {_FAST}")
        self._user = "postgres" if is_root() else None
        self._programs = programs()

    def __enter__(self) -> str:
        self.__exit__()  # What a killed run left behind.
        self._folder.mkdir(parents=True, mode=0o700)
        password, port = secrets.token_hex(16), free_port()
        secret = self._folder / "password"
        secret.write_text(password)
        self._own(self._folder, secret)
        log = self._folder.with_suffix(".log")
        data = str(self._folder / "data")
        make = [
            "initdb",
            "-D",
            data,
            "-U",
            "portal",
            "--auth=scram-sha-256",
            f"--pwfile={secret}",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        logged(_STAGE, self._command([*make, "--locale=C.UTF-8"]), log)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' {self._options}"
        server_log = str(self._folder / "server.log")
        start = ["pg_ctl", "start", "-w", "-D", data, "-l", server_log, "-o", options]
        logged(_STAGE, self._command(start), log)
        return f"postgres://portal:{password}@127.0.0.1:{port}/postgres"

    def __exit__(self, *_: object) -> None:
        if (self._folder / "data").exists():
            answers(self._command(["pg_ctl", "stop", "-m", "immediate", "-D", str(self._folder / "data")]))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self, argv: list[str]) -> list[str]:
        return dropped([str(self._programs / argv[0]), *argv[1:]], self._user)

    def _own(self, *paths: Path) -> None:
        if self._user:
            account = pwd.getpwnam(self._user)
            for path in paths:
                os.chown(path, account.pw_uid, account.pw_gid)


def programs(root: Path = Path("/usr/lib/postgresql")) -> Path:
    """Debian keeps the server's programs by version and off the PATH; take the newest."""
    found = [path.parent for path in root.glob("*/bin/pg_ctl")]
    if not found:
        raise Stop("PostgreSQL's server programs are missing", todo="apt-get install postgresql")
    return max(found, key=lambda path: int(path.parent.name))
