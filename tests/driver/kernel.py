"""A kernel of some sixty bytes: it waits for the power button and powers off.

Multiboot, which QEMU's direct kernel boot accepts: a header of eight words, then 32-bit code. It stands in
for the guest image, so that real machines can be started, shut down and destroyed within a second each.
"""

import hashlib
import struct
from pathlib import Path

from provisioning.driver import ImageSpec

_MAGIC, _ADDRESSES_GIVEN, _LOAD = 0x1BADB002, 0x10000, 0x100000
_ENABLE_BUTTON = "66ba0206 66b80001 66ef"  # out port 0x602 (PM1 enable), power button
_WAIT_FOR_BUTTON = "66ba0006 66ed f6c401 74f5"  # until bit 8 of port 0x600 (PM1 status)
_POWER_OFF = "66ba0406 66b80020 66ef f4ebfd"  # out port 0x604 (PM1 control), S5; halt


def kernel() -> bytes:
    """The kernel file."""
    checksum = -(_MAGIC + _ADDRESSES_GIVEN) & 0xFFFFFFFF
    header = struct.pack("<8I", _MAGIC, _ADDRESSES_GIVEN, checksum, _LOAD, _LOAD, 0, 0, _LOAD + 32)
    return (header + bytes.fromhex(_ENABLE_BUTTON + _WAIT_FOR_BUTTON + _POWER_OFF)).ljust(512, b"\0")


def write_image(directory: Path) -> ImageSpec:
    """An image directory around the kernel."""
    files = {"vmlinuz": kernel(), "initrd.img": b"\0" * 512, "root.img": b"\0" * 1024**2}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return ImageSpec("tiny", str(directory), hashes, "console=ttyS0")
