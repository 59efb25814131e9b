"""Jobs as transient systemd units: user tenant, in the workspace, closed in, bounded in every resource."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from guest.launcher import gateway_unit, journal
from guest.launcher.way_out import WayOut, way_out
from guest.launcher.wire import Gateway, Job, Refused

JOBS = Path("/var/lib/portal/jobs")
CALL_SECONDS = gateway_unit.CALL_SECONDS
_CLOSED_IN = (
    *("Type=exec", "Slice=jobs.slice", "KillMode=control-group", "TimeoutStopSec=5", "OOMPolicy=stop"),
    *("WorkingDirectory=/var/lib/portal/workspace", "UMask=0007", "LimitCORE=0", "NoNewPrivileges=yes"),
    *("ProtectSystem=strict", "ReadWritePaths=/var/lib/portal/workspace", "ProtectHome=yes"),
    *("PrivateTmp=yes", "PrivateDevices=yes", "ProtectProc=invisible", "ProcSubset=pid", "RemoveIPC=yes"),
    # All of /run/systemd cannot be hidden: systemd itself needs it to build the job's name space.
    "InaccessiblePaths=/run/portal /run/systemd/private /run/systemd/journal /run/systemd/notify"
    " /var/lib/portal/agent /var/lib/portal/gateway /var/lib/portal/jobs",
    *("ProtectClock=yes", "ProtectControlGroups=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes"),
    *("ProtectKernelModules=yes", "ProtectKernelTunables=yes", "LockPersonality=yes"),
    *("RestrictAddressFamilies=AF_INET AF_UNIX", "RestrictNamespaces=yes", "RestrictRealtime=yes"),
    # The gateway trusts whoever reaches its loopback port; only the agent may. What a job sends past the
    # proxy is let out of the machine on purpose: outside it is dropped, and counted where tenants see it.
    "IPAddressDeny=localhost",
    *("RestrictSUIDSGID=yes", "SystemCallArchitectures=native", "SystemCallErrorNumber=EPERM"),
    *("SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources"),
    *("CapabilityBoundingSet=", "MemorySwapMax=0", "OOMScoreAdjust=500"),
)
_STATES = {"active", "activating", "deactivating", "reloading"}


def command(job: Job, out: WayOut | None) -> list[str]:
    """What starts ``job``, with ``out`` as its way to the world.

    The tenant's words come after ``--`` and meet no shell and no $NAME.
    """
    bounds = (
        f"MemoryMax={job.memory_bytes}",
        f"TasksMax={job.tasks}",
        f"RuntimeMaxSec={job.seconds}",
        f"CPUWeight={job.cpu_weight}",
        f"StandardOutput=file:{JOBS}/{job.id}.log",
        f"StandardError=file:{JOBS}/{job.id}.log",
        f"ExecStopPost=+/usr/lib/portal/job-ended {job.id}",
    )
    environment = {"HOME": "/var/lib/portal/workspace", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    if out is not None:
        environment |= out.environment
    return [
        *("/usr/bin/systemd-run", "--quiet", "--no-block", "--collect", "--no-ask-password"),
        *(f"--unit=job-{job.id}", "--uid=tenant", "--gid=workspace"),
        *(f"--property={each}" for each in (*_CLOSED_IN, *bounds)),
        *(f"--setenv={name}={value}" for name, value in environment.items()),
        *("--setenv=PYTHONPATH=/opt/agent", "--", "/usr/bin/python3", "-S", "-s", "-m", "guest.launcher.run"),
        *(
            str(job.log_bytes),
            "/usr/bin/env",
            "-u",
            "PYTHONPATH",
            "--",
            *(each.replace("$", "$$") for each in job.argv),
        ),
    ]


class Units:
    """The backend of a real guest."""

    name = "systemd"

    def start(self, job: Job) -> None:
        """Start it, unless it was started before. Raises Refused."""
        log = JOBS / f"{job.id}.log"
        try:
            log.touch(mode=0o640, exist_ok=False)
        except FileExistsError:
            return
        line = command(job, way_out(os.environ))
        done = subprocess.run(line, capture_output=True, timeout=CALL_SECONDS, check=False)
        if done.returncode:
            log.unlink()
            raise Refused("systemd did not take the job")

    def status(self, job: str) -> dict[str, Any]:
        """``running``, or ``ended`` with the result, or ``unknown``."""
        show = ["/usr/bin/systemctl", "show", "--property=ActiveState", "--value", f"job-{job}.service"]
        done = subprocess.run(show, capture_output=True, text=True, timeout=CALL_SECONDS, check=False)
        if done.returncode:
            raise Refused("systemd does not answer")
        if done.stdout.strip() in _STATES:
            return {"state": "running"}
        try:
            return {"state": "ended", **json.loads((JOBS / f"{job}.json").read_bytes())}
        except (OSError, ValueError):
            return {"state": "unknown"}

    def stop(self, job: str) -> None:
        """Let all of its processes end, by force after five seconds."""
        stop = ["/usr/bin/systemctl", "stop", "--no-block", f"job-{job}.service"]
        subprocess.run(stop, capture_output=True, timeout=CALL_SECONDS, check=False)

    def kill(self, job: str) -> None:
        """End all of its processes at once, without a word to them."""
        for verb in (("kill", "--signal=KILL"), ("stop", "--no-block")):
            line = ["/usr/bin/systemctl", *verb, f"job-{job}.service"]
            subprocess.run(line, capture_output=True, timeout=CALL_SECONDS, check=False)

    def forget(self, job: str) -> None:
        """Remove log and result of a job that is over. Raises Refused."""
        if self.status(job)["state"] == "running":
            raise Refused("the job is running")
        for suffix in ("log", "json", "json.new"):
            (JOBS / f"{job}.{suffix}").unlink(missing_ok=True)

    def gateway_start(self, gateway: Gateway) -> None:
        """Start it, unless one runs. Raises Refused."""
        gateway_unit.start(gateway)

    def gateway_status(self) -> dict[str, Any]:
        """State, result of the last end, and memory."""
        return gateway_unit.status()

    def gateway_stop(self) -> None:
        """Let it end; by force after a while."""
        gateway_unit.stop()

    def journal(self, of: str) -> dict[str, Any]:
        """The end of what one of our services has said. Raises Refused."""
        return {"text": journal.read(of)}
