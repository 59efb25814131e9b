"""The gateway as a transient systemd unit: a user of its own, closed in, bounded in memory and processes."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from guest.gateway import places
from guest.launcher.way_out import WayOut, way_out
from guest.launcher.wire import Gateway, Refused

UNIT = "portal-gateway.service"
START = "/usr/lib/portal/gateway-start"
ENDED = Path(places.CONFIG_FOLDER) / "ended.json"
CALL_SECONDS = 20
STOP_SECONDS = 30
"""An idle gateway ends within one second; an emulated processor is some 14 times slower."""
_CLOSED_IN = (
    *("Type=exec", "Restart=no", "KillMode=mixed", f"TimeoutStopSec={STOP_SECONDS}", "OOMPolicy=stop"),
    *(f"WorkingDirectory={places.WORKSPACE}", "UMask=0007", "LimitCORE=0", "LimitNOFILE=4096"),
    *("NoNewPrivileges=yes", "CapabilityBoundingSet=", "AmbientCapabilities="),
    *("ProtectSystem=strict", f"ReadWritePaths={places.STATE} {places.WORKSPACE}", "ProtectHome=yes"),
    *("RuntimeDirectory=portal-gateway", "RuntimeDirectoryMode=0700"),
    *("PrivateTmp=yes", "PrivateDevices=yes", "ProtectProc=invisible", "RemoveIPC=yes"),
    "InaccessiblePaths=/var/lib/portal/agent /var/lib/portal/jobs -/run/portal/launcher.sock"
    " /run/systemd/private /run/systemd/journal /run/systemd/notify",
    *("ProtectClock=yes", "ProtectControlGroups=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes"),
    *("ProtectKernelModules=yes", "ProtectKernelTunables=yes", "LockPersonality=yes"),
    # Netlink: it lists the machine's own addresses, to tell them from a proxy's.
    *("RestrictAddressFamilies=AF_INET AF_UNIX AF_NETLINK", "RestrictNamespaces=yes"),
    *("RestrictRealtime=yes", "RestrictSUIDSGID=yes"),
    # And the egress proxy, where there is one. That it is only the proxy's port, portal-network sees to.
    *("IPAddressDeny=any", "IPAddressAllow=localhost"),
    *("SystemCallArchitectures=native", "SystemCallErrorNumber=EPERM"),
    *("SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources"),
    *("MemorySwapMax=0", "OOMScoreAdjust=300"),
    # No MemoryDenyWriteExecute: V8 compiles to machine code at run time.
    *("StandardOutput=journal", "StandardError=journal"),
    "ExecStopPost=+/usr/lib/portal/gateway-ended",
)
_STATES = {"active", "activating", "deactivating", "reloading"}


def command(gateway: Gateway, out: WayOut | None) -> list[str]:
    """What starts it; ``out``: its way to the world. Nothing of the configuration is on the command line."""
    bounds = [f"MemoryMax={gateway.memory_mib}M", f"TasksMax={gateway.tasks}"]
    environment = places.environment(gateway.heap_mib)
    if out is not None:
        bounds.append(f"IPAddressAllow={out.address}")
        environment |= out.environment
    return [
        *("/usr/bin/systemd-run", "--quiet", "--no-block", "--collect", "--no-ask-password"),
        *(f"--unit={UNIT}", "--uid=gateway", "--gid=gateway", "--property=SupplementaryGroups=workspace"),
        *(f"--property={each}" for each in (*_CLOSED_IN, *bounds)),
        *(f"--setenv={name}={value}" for name, value in environment.items()),
        *("--", START),
    ]


def start(gateway: Gateway) -> None:
    """Write its configuration and start it. Raises Refused while one runs."""
    if status()["state"] == "running":
        raise Refused("a gateway runs; stop it first")
    ENDED.unlink(missing_ok=True)
    write_config(gateway.config)
    line = command(gateway, way_out(os.environ))
    done = subprocess.run(line, capture_output=True, timeout=CALL_SECONDS, check=False)
    if done.returncode:
        raise Refused("systemd did not take the gateway")


def write_config(text: str, path: Path = Path(places.CONFIG), group: str | int = "gateway") -> None:
    """Write it, whole or not at all, for the gateway's eyes only: jobs and the agent cannot read it."""
    shutil.chown(path.parent, group=group)
    path.parent.chmod(0o750)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
    with os.fdopen(handle, "w") as file:
        shutil.chown(new, group=group)
        file.write(text)
    new.replace(path)


def status() -> dict[str, Any]:
    """``running``, ``ended`` with systemd's word for how, or ``off``; and the memory of all its processes."""
    properties = ("ActiveState", "MemoryCurrent")
    show = ["/usr/bin/systemctl", "show", *(f"--property={name}" for name in properties), UNIT]
    done = subprocess.run(show, capture_output=True, text=True, timeout=CALL_SECONDS, check=False)
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    if found.get("ActiveState") in _STATES:
        memory = found.get("MemoryCurrent", "")
        return {"state": "running", "result": None, "memory_bytes": int(memory) if memory.isdigit() else None}
    try:
        result = json.loads(ENDED.read_bytes())["result"]
    except (OSError, ValueError, KeyError, TypeError):
        return {"state": "off", "result": None, "memory_bytes": None}
    return {"state": "ended", "result": result, "memory_bytes": None}


def stop() -> None:
    """Let it end. Returns at once; ``status`` tells when it is over."""
    line = ["/usr/bin/systemctl", "stop", "--no-block", UNIT]
    subprocess.run(line, capture_output=True, timeout=CALL_SECONDS, check=False)
