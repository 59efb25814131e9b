"""Tiny programs that prove a processor works: hand-assembled, since an assembler is no part of the portal."""

_COM1, _PM1_CONTROL = 0x3F8, 0x604
_SLEEP_ENABLE = 0x2000
"""S5 (off) on QEMU's q35; the firmware has put the ACPI registers at port 0x600."""
_DISK_BYTES = 1024**2
"""The firmware does not boot from a disk of one sector."""


def _word(value: int) -> bytes:
    return value.to_bytes(2, "little")


def power_off_disk() -> bytes:
    """A disk whose boot sector (16-bit code) writes ``P`` to the serial port, powers off, halts."""
    code = (
        b"\xba" + _word(_COM1) + b"\xb0P\xee"  # mov dx, COM1; mov al, 'P'; out dx, al
        b"\xba" + _word(_PM1_CONTROL) + b"\xb8" + _word(_SLEEP_ENABLE) + b"\xef"  # out PM1_CONTROL, S5
        b"\xfa\xf4\xeb\xfd"  # cli; hlt; and again, should it wake
    )
    sector = code.ljust(510, b"\0") + b"\x55\xaa"
    return sector.ljust(_DISK_BYTES, b"\0")
