"""The fleet's storage pool, data volumes and credentials, through libvirt.

**A half-created data volume.** libvirt creates a volume inside one call that the daemon finishes even if
its client dies, and removes the file if creation fails. A partial file can stay only if the daemon or the
host dies. QEMU writes the encryption header last (size first, then LUKS, then the header that names it),
so a file that libvirt, reading it afresh, does not call LUKS was never complete; it was never given to a
guest either, since the machine's definition demands LUKS. Such a file is removed and made again, but only
while it is too small to hold data; anything else of our name is a `Conflict` for a person to look at.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

import libvirt

from provisioning.driver import naming, xml
from provisioning.driver.connection import CPU_CLOCK, found
from provisioning.driver.faults import around
from provisioning.driver.marks import attribute, parse
from provisioning.driver.types import Conflict, HostBusy, HostSpec, NoSpace, RuntimeSpec

GIB = 1024**3
CREATION_WAIT_SECONDS = 60.0
CREATION_ATTEMPTS = 5
"""How often creation may fail on QEMU's speed measurement (see `CPU_CLOCK`) before we give up."""
_POLL_SECONDS = 0.2
_EMPTY_BYTES = 16 * 1024**2
"""A fresh LUKS qcow2 takes about 2 MiB; more than this may be somebody's data."""
_CHUNK = 256 * 1024


def find_pool(conn: Any, host: HostSpec) -> Any | None:
    """The fleet's pool, or None."""
    name = naming.pool_name(host.fleet)
    return found(lambda: conn.storagePoolLookupByName(name), libvirt.VIR_ERR_NO_STORAGE_POOL)


def active_pool(conn: Any, host: HostSpec) -> Any:
    """The fleet's pool, running.

    Raises:
        Conflict: `ensure_pool` has not been called, or somebody stopped it.
    """
    pool = find_pool(conn, host)
    if pool is None or not pool.isActive():
        raise Conflict(
            f"The storage pool {naming.pool_name(host.fleet)} is not running. Run ensure_pool first."
        )
    return pool


def ensure_pool(conn: Any, host: HostSpec) -> bool:
    """Define, build, start and autostart the pool, as far as needed."""
    pool, changed = find_pool(conn, host), False
    if pool is None:
        with around("pool.define"):
            pool = defined(
                lambda: conn.storagePoolDefineXML(xml.pool(host), 0), lambda: find_pool(conn, host)
            )
        changed = True
    path = parse(pool.XMLDesc(0)).findtext("target/path")
    if path != host.pool_path:
        raise Conflict(
            f"The pool {pool.name()} lies in {path}, not in {host.pool_path}. Correct the host's entry."
        )
    if not pool.isActive():
        with around("pool.build"):
            unless_active(pool, lambda: pool.build(0))
        with around("pool.start"):
            unless_active(pool, lambda: pool.create(0))
        changed = True
    if not pool.autostart():
        with around("pool.autostart"):
            pool.setAutostart(1)
        changed = True
    return changed


def defined(define: Callable[[], Any], find: Callable[[], Any | None]) -> Any:
    """The pool that ``define`` makes; the one that ``find`` finds, where another worker was first."""
    try:
        return define()
    except libvirt.libvirtError:
        pool = find()
        if pool is None:
            raise
        return pool


def unless_active(pool: Any, call: Callable[[], object]) -> None:
    """Build or start the pool; nothing, where another worker has started it meanwhile."""
    try:
        call()
    except libvirt.libvirtError:
        if not pool.isActive():
            raise


def remove_pool(conn: Any, host: HostSpec) -> bool:
    """Stop and undefine the pool; its directory stays.

    Raises:
        Conflict: it still holds volumes.
    """
    pool = find_pool(conn, host)
    if pool is None:
        return False
    if pool.isActive():
        held = [volume.name() for volume in pool.listAllVolumes(0)]
        if any(name.startswith(naming.PREFIX) for name in held):
            raise Conflict(f"The pool {pool.name()} still holds {len(held)} volumes. Remove them first.")
        with around("pool.stop"):
            pool.destroy()
    with around("pool.undefine"):
        pool.undefine()
    return True


def find_volume(pool: Any, name: str) -> Any | None:
    """A volume of the pool, or None."""
    return found(lambda: pool.storageVolLookupByName(name), libvirt.VIR_ERR_NO_STORAGE_VOL)


def refresh(pool: Any) -> None:
    """Have libvirt read the pool's files afresh, waiting for volumes that are being created.

    Raises:
        HostBusy: still being created after `CREATION_WAIT_SECONDS`.
    """
    deadline = time.monotonic() + CREATION_WAIT_SECONDS
    while True:
        try:
            pool.refresh(0)
            return
        except libvirt.libvirtError as error:
            if "asynchronous jobs" not in str(error):
                raise
        if time.monotonic() > deadline:
            raise HostBusy(f"The pool {pool.name()} has been creating a volume for a minute.")
        time.sleep(_POLL_SECONDS)


def ensure_volume(conn: Any, host: HostSpec, spec: RuntimeSpec) -> bool:
    """Create the data volume unless a complete one is there."""
    pool = active_pool(conn, host)
    name = naming.volume_name(spec.runtime_id)
    if find_volume(pool, name) is not None:
        refresh(pool)
        volume = find_volume(pool, name)
        if volume is not None and _complete(volume, spec):
            return False
        if volume is not None:
            with around("volume.delete"):
                volume.delete(0)
    require_room(pool, spec.disk_gib * GIB)
    _create_volume(pool, spec)
    return True


def require_room(pool: Any, size: int) -> None:
    """See that ``size`` bytes are free.

    Raises:
        NoSpace: they are not.
    """
    free = pool.info()[3]
    if free < size:
        raise NoSpace(
            f"The pool has {free / GIB:.1f} GiB free and the volume may grow to {size / GIB:g} GiB. "
            "Free space, or choose another host or a smaller plan."
        )


def volume_gib(conn: Any, host: HostSpec, runtime_id: UUID) -> int | None:
    """The size of the runtime's data volume; None if there is none."""
    pool = find_pool(conn, host)
    if pool is None or not pool.isActive():
        return None
    volume = find_volume(pool, naming.volume_name(runtime_id))
    return None if volume is None else volume.info()[1] // GIB


def _create_volume(pool: Any, spec: RuntimeSpec) -> None:
    attempts = 0
    while True:
        try:
            with around("volume.create"):
                pool.createXML(xml.volume(spec), 0)
            return
        except libvirt.libvirtError as error:
            attempts += 1
            if error.get_error_code() == libvirt.VIR_ERR_STORAGE_VOL_EXIST:
                raise HostBusy("Somebody else is creating this volume.") from None
            if CPU_CLOCK not in str(error).lower() or attempts == CREATION_ATTEMPTS:
                raise


def _complete(volume: Any, spec: RuntimeSpec) -> bool:
    """Whether the volume is what we asked for; False if it is the rest of an attempt that died.

    Raises:
        Conflict: it is neither.
    """
    root = parse(volume.XMLDesc(0))
    encrypted = attribute(root, "target/encryption", "format") == "luks"
    form = attribute(root, "target/format", "type")
    _type, capacity, allocation = volume.info()
    if encrypted and form == "qcow2" and capacity == spec.disk_gib * GIB:
        return True
    if not encrypted and allocation <= _EMPTY_BYTES:
        return False
    raise Conflict(
        f"The volume {volume.name()} is {form}, {'LUKS' if encrypted else 'not encrypted'}, "
        f"{capacity / GIB:g} GiB; expected qcow2, LUKS, {spec.disk_gib} GiB. It may hold data: look at it, "
        "then remove or correct it."
    )


def remove_volume(conn: Any, host: HostSpec, name: str) -> bool:
    """Delete a volume of the pool; False if there is no such volume or pool."""
    pool = find_pool(conn, host)
    if pool is None or not pool.isActive():
        return False
    volume = find_volume(pool, name)
    if volume is None:
        return False
    with around("volume.delete"):
        volume.delete(0)
    return True


def ensure_file(conn: Any, host: HostSpec, name: str, payload: bytes) -> bool:
    """Hold exactly ``payload`` in a raw volume of mode 0600, replacing one that differs."""
    pool = active_pool(conn, host)
    volume = find_volume(pool, name)
    if volume is not None and volume.info()[1] != len(payload):
        with around("personalisation.delete"):
            volume.delete(0)
        volume = None
    if volume is not None and download(conn, volume, 0, len(payload)) == payload:
        return False
    if volume is None:
        with around("personalisation.create"):
            volume = pool.createXML(xml.raw_volume(name, len(payload)), 0)
    _upload(conn, volume, payload)
    return True


def remove_file(conn: Any, host: HostSpec, name: str) -> bool:
    """Delete what `ensure_file` wrote."""
    pool = find_pool(conn, host)
    if pool is None or not pool.isActive():
        return False
    volume = find_volume(pool, name)
    if volume is None:
        return False
    with around("personalisation.delete"):
        volume.delete(0)
    return True


def _upload(conn: Any, volume: Any, payload: bytes) -> None:
    with around("personalisation.upload"), streaming(conn) as stream:
        volume.upload(stream, 0, len(payload), 0)
        send(stream, payload)


def send(stream: Any, payload: bytes) -> None:
    """All of ``payload``, in packets that libvirt takes."""
    for start in range(0, len(payload), _CHUNK):
        stream.send(payload[start : start + _CHUNK])


def download(conn: Any, volume: Any, offset: int, length: int) -> bytes:
    """What the file holds from ``offset`` on, ``length`` (1 or more) bytes at most; fewer where it ends."""
    content = bytearray()
    with streaming(conn) as stream:
        volume.download(stream, offset, length, 0)
        while chunk := stream.recv(_CHUNK):
            content += chunk
    return bytes(content)


@contextmanager
def streaming(conn: Any) -> Iterator[Any]:
    """A stream that is finished at the end, or aborted after an error."""
    stream = conn.newStream(0)
    try:
        yield stream
        stream.finish()
    except BaseException:
        with suppress(libvirt.libvirtError):  # the error that brought us here is the one to tell
            stream.abort()
        raise


def listed(conn: Any, host: HostSpec, suffix: str) -> frozenset[UUID]:
    """Runtime ids of the pool's volumes whose name ends with ``suffix``."""
    pool = find_pool(conn, host)
    if pool is None or not pool.isActive():
        return frozenset()
    ids = (naming.runtime_of(volume.name(), naming.PREFIX, suffix) for volume in pool.listAllVolumes(0))
    return frozenset(runtime_id for runtime_id in ids if runtime_id)


def disk_bytes(conn: Any, host: HostSpec) -> int:
    """What the fleet's volumes occupy plus what is free; 0 without a running pool."""
    pool = find_pool(conn, host)
    if pool is None or not pool.isActive():
        return 0
    # One that is deleted while we count occupies nothing.
    sizes = (found(volume.info, libvirt.VIR_ERR_NO_STORAGE_VOL) for volume in pool.listAllVolumes(0))
    occupied: int = sum(info[2] for info in sizes if info)
    free: int = pool.info()[3]
    return occupied + free
