"""The gateway in a guest and on this machine: start, an agent's turns, memory.

In the guest it is the image's own check, made once more; outside the same files run with the same
configuration and the same compiled modules, so the difference is the guest's.
"""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from guest.gateway import rehearsal
from guest.gateway.config import Model
from guest.image import check
from tests.gateway.native import Native, free_port, running, tree

_SAID = ("booted", "ready", "first_turn", "second_turn", "stop")
_TAG = "v8.cachedDataVersionTag().toString(16).padStart(8, '0')"
_NAME = f"[process.version, process.arch, {_TAG}, process.getuid()].join('-')"


def measure(directory: Path) -> dict[str, Any]:
    """Seconds and MiB, for the guest (about five minutes under emulation) and for this machine."""
    inside = check.once(directory)
    if not inside["good"]:
        raise RuntimeError(f"the image is not good: {inside['reason']}")
    return {
        **{f"guest_{name}_s": inside[name] for name in _SAID},
        "guest_idle_mib": inside["idle_bytes"] / 2**20,
        "guest_used_mib": inside["used_bytes"] / 2**20,
        "guest_memory_mib": inside["guest_mib"],
        "guest_available_mib": inside["available_mib"],
        **{f"native_{name}": value for name, value in _outside().items()},
    }


def _outside() -> dict[str, float]:
    port = free_port()
    line = [sys.executable, "-m", "guest.gateway.rehearsal", "--port", str(port)]
    stand_in = subprocess.Popen(line)
    try:
        with TemporaryDirectory() as name:
            folder = Path(name)
            _link_compiled(folder / "code")
            model = Model(f"http://127.0.0.1:{port}/v1", rehearsal.NAME, "openai-completions")
            began = time.monotonic()
            with running(folder, model) as native:
                found = {"ready_s": time.monotonic() - began, "idle_mib": _resident_mib(native)}
                for turn in ("first", "second"):
                    began = time.monotonic()
                    native.say("run: echo $((6 * 7))")
                    found[f"{turn}_turn_s"] = time.monotonic() - began
                return {**found, "used_mib": _resident_mib(native)}
    finally:
        stand_in.terminate()
        stand_in.wait(10)


def _link_compiled(folder: Path) -> None:
    """As ``gateway-start`` does it in a guest."""
    asked = [str(tree() / "bin/node"), "-p", _NAME]
    name = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    folder.mkdir()
    (folder / name).symlink_to(tree() / "seed/code")


def _resident_mib(native: Native) -> float:
    for line in Path(f"/proc/{native.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the gateway has no memory")
