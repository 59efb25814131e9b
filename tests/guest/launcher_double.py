"""The launcher's program on a machine without systemd: the same protocol and files, around plain processes.

``python -m tests.guest.launcher_double SOCKET FOLDER``. Jobs outlive it, as units outlive the launcher.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from guest.launcher.__main__ import serve_one
from guest.launcher.wire import Gateway, Job, Refused


class Plain:
    """Runs jobs as this very user. Notes each start, so that a test can count them."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self._folder, self._listener = folder, listener

    def start(self, job: Job) -> None:
        if (self._folder / "refuse").exists():
            raise Refused("systemd did not take the job")
        try:
            (self._folder / f"{job.id}.log").touch(exist_ok=False)
        except FileExistsError:
            return
        with (self._folder / "starts").open("a") as file:
            file.write(f"{job.id} {job.memory_bytes} {job.tasks} {job.seconds} {job.log_bytes}\n")
        if (self._folder / "swallow").exists():
            return
        if (self._folder / "slow").exists():
            time.sleep(1)
        if os.fork() == 0:
            self._listener.close()
            os.setsid()
            self._carry_out(job)

    def status(self, job: str) -> dict[str, Any]:
        with suppress(FileNotFoundError):
            return {"state": "ended", **json.loads((self._folder / f"{job}.json").read_bytes())}
        return {"state": "running" if self._group(job) else "unknown"}

    def stop(self, job: str) -> None:
        if group := self._group(job):
            os.killpg(group, signal.SIGTERM)

    def kill(self, job: str) -> None:
        if group := self._group(job):
            os.killpg(group, signal.SIGKILL)

    def forget(self, job: str) -> None:
        if self.status(job)["state"] == "running":
            raise Refused("the job is running")
        for suffix in ("log", "json", "pid"):
            (self._folder / f"{job}.{suffix}").unlink(missing_ok=True)

    def gateway_start(self, gateway: Gateway) -> None:
        raise Refused(f"a double runs no gateway of {gateway.memory_mib} MiB")

    def gateway_status(self) -> dict[str, Any]:
        return {"state": "off", "result": None, "memory_bytes": None}

    def gateway_stop(self) -> None:
        """None runs."""

    def journal(self, of: str) -> dict[str, Any]:
        return {"text": f"what the {of} said\n"}

    def _group(self, job: str) -> int | None:
        try:
            group = int((self._folder / f"{job}.pid").read_text())
            os.killpg(group, 0)
        except (OSError, ValueError):
            return None
        return group

    def _carry_out(self, job: Job) -> None:
        line = [sys.executable, "-m", "guest.launcher.run", str(job.log_bytes), *job.argv]
        with (self._folder / f"{job.id}.log").open("ab") as log:
            process = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)
        (self._folder / f"{job.id}.pid").write_text(str(process.pid))
        try:
            ended = process.wait(timeout=job.seconds)
            result = "success" if ended == 0 else "exit-code" if ended > 0 else "signal"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            ended, result = process.wait(), "timeout"
        killed = signal.Signals(-ended).name.removeprefix("SIG") if ended < 0 else None
        found = {"result": result, "code": "killed" if killed else "exited", "status": killed or str(ended)}
        unfinished = self._folder / f"{job.id}.json.new"
        unfinished.write_text(json.dumps(found))
        unfinished.replace(self._folder / f"{job.id}.json")
        os._exit(0)


def main(path: str, folder: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        backend = Plain(Path(folder), listener)
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                serve_one(connection, backend, os.getuid())


if __name__ == "__main__":
    main(*sys.argv[1:])
