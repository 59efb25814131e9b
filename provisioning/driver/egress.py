"""The egress keeper's folder, through libvirt: a storage pool, so that a remote host is no different.

The worker writes rule documents there and reads the keeper's state and records. What a document means is the
keeper's business (`provisioning.egress`); a half-written one is recognised by its last line, so an upload
that was cut short does no harm and is simply sent again. Nobody makes the folder from here.

libvirt writes as root, and the keeper may write there too. So a document is only ever filled that was just
made anew, and the folder is root's and sticky: the keeper can put no link in the place of root's file.
"""

import re
from typing import Any

import libvirt

from provisioning.driver import naming, storage, xml
from provisioning.driver.connection import found
from provisioning.driver.faults import around
from provisioning.driver.marks import parse
from provisioning.driver.types import Conflict, HostSpec, Unsupported
from provisioning.egress.rules import file_name, generation_of

STATE_FILE = "state.json"
STATE_LIMIT = 1024 * 1024
"""Bytes of the keeper's state that are read."""
READ_LIMIT = 4 * 1024 * 1024
"""Bytes that one call of `read` may ask for."""
_RECORDS = re.compile(r"records-[0-9]{10}\.log")


def check_part(name: str, offset: int, length: int) -> None:
    """Let only parts of the records through.

    Raises:
        ValueError: another file, or not 1 to `READ_LIMIT` bytes from 0 on.
    """
    if not _RECORDS.fullmatch(name):
        raise ValueError(f"no file of records: {name!r}")
    if offset < 0 or not 1 <= length <= READ_LIMIT:
        raise ValueError(f"{length} bytes from {offset}: give 1 to {READ_LIMIT}, from 0 on")


def find_pool(conn: Any, host: HostSpec) -> Any | None:
    """The pool over the keeper's folder, or None."""
    name = naming.egress_pool_name(host.fleet)
    return found(lambda: conn.storagePoolLookupByName(name), libvirt.VIR_ERR_NO_STORAGE_POOL)


def path(conn: Any, host: HostSpec) -> str:
    """Where the pool of this fleet lies, whatever the host's entry says; empty if there is none."""
    pool = find_pool(conn, host)
    return "" if pool is None else (parse(pool.XMLDesc(0)).findtext("target/path") or "")


def ensure_pool(conn: Any, host: HostSpec) -> Any:
    """The pool, defined, started and autostarted as far as needed; its folder must be there.

    Raises:
        Unsupported: the host has no egress keeper.
        Conflict: the pool lies elsewhere.
    """
    if not host.egress_path:
        raise Unsupported("This host has no egress proxy. Run `host_register --again` with --egress.")
    pool = find_pool(conn, host)
    if pool is None:
        with around("egress.define"):
            pool = storage.defined(
                lambda: conn.storagePoolDefineXML(xml.egress_pool(host), 0), lambda: find_pool(conn, host)
            )
    lies = path(conn, host)
    if lies != host.egress_path:
        raise Conflict(
            f"The pool {pool.name()} lies in {lies}, not in {host.egress_path}. Correct the host's entry."
        )
    if not pool.isActive():
        with around("egress.start"):
            storage.unless_active(pool, lambda: pool.create(0))
    if not pool.autostart():
        with around("egress.autostart"):
            pool.setAutostart(1)
    return pool


def put(conn: Any, host: HostSpec, generation: int, body: bytes) -> bool:
    """Hold exactly ``body`` as that generation's document, and none of before. False if it is there."""
    pool, name = ensure_pool(conn, host), file_name(generation)
    storage.refresh(pool)  # libvirt sees nothing of what others do in the folder
    volume = storage.find_volume(pool, name)
    if volume is not None:
        if volume.info()[1] == len(body) and storage.download(conn, volume, 0, len(body)) == body:
            return False
        _delete(volume)
    with around("egress.create"):
        # Others may read: the keeper is another Unix user, and its folder is closed to everybody else.
        # libvirt makes the file itself (O_EXCL), or fails.
        volume = pool.createXML(xml.raw_volume(name, len(body), "0644"), 0)
    with around("egress.upload"), storage.streaming(conn) as stream:
        volume.upload(stream, 0, len(body), 0)
        storage.send(stream, body)
    _forget(pool, generation)
    return True


def _forget(pool: Any, below: int) -> None:
    """Remove the documents of lower numbers; the keeper, which is past them, could not."""
    for volume in pool.listAllVolumes(0):
        generation = generation_of(volume.name())
        if generation is not None and generation < below:
            _delete(volume)


def _delete(volume: Any) -> None:
    with around("egress.delete"):
        volume.delete(0)


def read(conn: Any, host: HostSpec, name: str, offset: int, length: int) -> bytes | None:
    """A part of a file of the folder; None if it, or the pool, is not there."""
    pool = find_pool(conn, host)
    if pool is None or not pool.isActive():
        return None
    volume = storage.find_volume(pool, name)
    if volume is None:
        storage.refresh(pool)  # it may have been made since libvirt last looked
        volume = storage.find_volume(pool, name)
    if volume is None:
        return None
    try:
        return storage.download(conn, volume, offset, length)
    except libvirt.libvirtError:
        storage.refresh(pool)
        if storage.find_volume(pool, name) is None:
            return None  # the keeper has removed it meanwhile
        raise


def remove(conn: Any, host: HostSpec) -> bool:
    """Delete the documents that we wrote and forget the pool. The folder and its other files stay."""
    pool = find_pool(conn, host)
    if pool is None:
        return False
    if pool.isActive():
        storage.refresh(pool)
        for volume in pool.listAllVolumes(0):
            if generation_of(volume.name()) is not None:
                _delete(volume)
        with around("egress.stop"):
            pool.destroy()
    with around("egress.undefine"):
        pool.undefine()
    return True
