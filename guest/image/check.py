"""Check a built image by using it: ``python -m guest.image.check DIRECTORY``.

Boots a guest from it that does nothing else, with an empty data disk and no network, and lets it start the
gateway and run one turn of an agent (``guest.gateway.selftest``). Writes ``checked.json`` beside the
manifest: the digests of what was booted, the result, and where the time went.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import file_digest
from pathlib import Path
from typing import Any

FILES = ("vmlinuz", "initrd.img", "root.img")
MANIFEST = "manifest.json"
CHECKED = "checked.json"
NOT_CHECKED = 2
"""Exit status if no machine could be run: nothing is known of the image."""
TARGET = "systemd.unit=portal-selftest.target"
PREFIX = "portal-selftest: "
MEMORY_MIB = 2048
DATA_BYTES = 2 << 30
SECONDS = 900.0
"""For all of it; an emulated processor takes some 200."""

Progress = Callable[[str], None]


class CheckError(Exception):
    """The check could not be made; says nothing about the image."""


def ensure(directory: Path, progress: Progress) -> dict[str, Any]:
    """The result for the image in ``directory``: the one on disk if it is for these files, or a new one.

    Raises:
        CheckError: there is no image, or no machine could be run.
    """
    digests = {name: _digest(directory / name) for name in FILES}
    known = read(directory)
    if known.get("sha256") == digests and known.get("good") is True:
        progress(f"{directory.name} was checked before")
        return known
    progress(f"{directory.name}: checking with one turn of an agent ({_accelerator()})")
    began = time.monotonic()
    found = once(directory)
    result = {
        "sha256": digests,
        "engine": _accelerator(),
        "seconds": round(time.monotonic() - began, 1),
        **found,
    }
    new = directory / f"{CHECKED}.new"
    new.write_text(json.dumps(result, indent=1) + "\n")
    new.replace(directory / CHECKED)
    return result


def once(directory: Path) -> dict[str, Any]:
    """What one such guest says of itself, or that it said nothing; leaves no mark. Raises CheckError."""
    return _heard(_boot(directory))


def read(directory: Path) -> dict[str, Any]:
    """What ``checked.json`` says; nothing if there is none that can be read."""
    try:
        document = json.loads((directory / CHECKED).read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def is_good(directory: Path, digests: dict[str, str]) -> bool:
    """Whether the image with just these digests has passed."""
    found = read(directory)
    return found.get("good") is True and found.get("sha256") == digests


def command(directory: Path, data: Path, serial: Path) -> list[str]:
    """The machine: as small as a plan with agents may be, its serial port a file."""
    cmdline = json.loads((directory / MANIFEST).read_text())["cmdline"]
    accelerator = _accelerator()
    disks = [("root", directory / "root.img", "on"), ("data", data, "off")]
    return [
        *("qemu-system-x86_64", "-machine", f"q35,accel={accelerator}"),
        *("-cpu", "host" if accelerator == "kvm" else "max", "-smp", str(min(2, os.cpu_count() or 1))),
        *("-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-nic", "none", "-serial", f"file:{serial}", "-device", "virtio-rng-pci"),
        *("-kernel", str(directory / "vmlinuz"), "-initrd", str(directory / "initrd.img")),
        *("-append", f"{cmdline} {TARGET}"),
        *(
            part
            for name, path, only_read in disks
            for part in (
                *("-drive", f"if=none,id={name},format=raw,file={path},readonly={only_read}"),
                *("-device", f"virtio-blk-pci,drive={name},serial={name}"),
            )
        ),
    ]


def _boot(directory: Path) -> str:
    """Run the machine to its end; returns what it wrote on its serial port."""
    with tempfile.TemporaryDirectory(prefix="portal-check-") as name:
        data, serial = Path(name) / "data.img", Path(name) / "serial"
        with data.open("wb") as file:
            file.truncate(DATA_BYTES)
        try:
            done = subprocess.run(
                command(directory, data, serial), capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return ""
        except OSError as failure:
            raise CheckError(f"cannot run QEMU: {failure.strerror}; install qemu-system-x86") from None
        if done.returncode:
            raise CheckError(f"QEMU ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
        return serial.read_text(errors="replace")


def _heard(serial: str) -> dict[str, Any]:
    lines = [line for line in serial.splitlines() if line.startswith(PREFIX)]
    try:
        document = json.loads(lines[-1].removeprefix(PREFIX))
        if isinstance(document, dict) and isinstance(document.get("good"), bool):
            return document
    except (IndexError, ValueError):
        pass
    said = serial.strip()[-300:]
    return {"good": False, "reason": f"the guest gave no result; its last words: {said or 'none'}"}


def _accelerator() -> str:
    """The processor's own virtualisation where it is plainly there: a KVM without it runs, and hangs."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        flags = []
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return "kvm" if usable and {"vmx", "svm"} & set(flags) else "tcg"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as failure:
        raise CheckError(f"{path.name} cannot be read: {failure.strerror}; build the image") from None


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Command line; returns 0 if the image is good, 1 if not, 2 if that could not be found out."""
    parser = argparse.ArgumentParser(description="Check a built guest image.")
    parser.add_argument("directory", type=Path)
    try:
        result = ensure(parser.parse_args().directory.resolve(), _say)
    except CheckError as failure:
        sys.stderr.write(f"guest image: {failure}\n")
        return NOT_CHECKED
    shown = {name: value for name, value in result.items() if name != "sha256"}
    _say(json.dumps(shown))
    return 0 if result["good"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
