"""The first file system of a boot: one static program, one script and a handful of kernel modules.

Written as an uncompressed cpio archive (format "newc"): unpacking costs more than reading a few MiB.
"""

import stat
from dataclasses import dataclass
from pathlib import Path

_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4


@dataclass(frozen=True)
class Entry:
    """One member of the archive. ``mode`` holds the file type, as in ``st_mode``."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str) -> Entry:
    return Entry(name, stat.S_IFDIR | 0o755)


def program(name: str, data: bytes) -> Entry:
    return Entry(name, stat.S_IFREG | 0o755, data)


def archive(entries: list[Entry], epoch: int) -> bytes:
    """Return the archive's bytes; the same entries always give the same bytes.

    Args:
        entries: parents before their children.
        epoch: the modification time of every member, in seconds since 1970.
    """
    members = [_member(number, entry, epoch) for number, entry in enumerate(entries, start=1)]
    return b"".join([*members, _member(0, Entry(_TRAILER, 0), 0)])


def initramfs_entries(busybox: Path, init: Path, modules: Path, names: tuple[str, ...]) -> list[Entry]:
    """The members of the guest's initramfs.

    Args:
        busybox: a static busybox.
        init: the script to run as the first program.
        modules: the kernel's module folder, ``…/lib/modules/<release>``.
        names: module paths inside it, in the order of loading.
    """
    folders = ("bin", "dev", "proc", "sys", "run", "lower", "volatile", "system", "modules")
    shell = [program("bin/busybox", busybox.read_bytes())]
    shell += [Entry(f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox") for name in ("sh", "poweroff")]
    console = Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    flat = [Path(name).name for name in names]
    loaded = [
        program(f"modules/{short}", (modules / name).read_bytes())
        for short, name in zip(flat, names, strict=True)
    ]
    order = program("modules/list", "".join(f"{name}\n" for name in flat).encode())
    return [
        *map(directory, folders),
        console,
        *shell,
        program("init", init.read_bytes()),
        order,
        *loaded,
    ]


def _member(number: int, entry: Entry, epoch: int) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, epoch, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + "".join(f"{field:08x}" for field in fields).encode()
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
