"""A connection to libvirt: opened within a time limit, kept alive, its errors translated.

libvirt has no type stubs; its objects are `Any` here and in the modules that call it.

One event loop per process, in a daemon thread, drives keepalive. A child forked from such a process gets no
connection at all: the parent's socket would be shared, and a lock inside libvirt that the loop's thread held
at the fork stays held in the child for ever. Inherited connections are disarmed and new ones refused at once,
rather than hanging now and then. Celery's parent process opens none, so its children may.
"""

import functools
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import libvirt

from provisioning.driver.types import CallFailed, DriverError, HostBusy, HostUnreachable, NoSpace, Unsupported

OPEN_TIMEOUT_SECONDS = 10.0
KEEPALIVE_SECONDS = 5
KEEPALIVE_COUNT = 6
"""A daemon that is silent for about this many times ``KEEPALIVE_SECONDS`` is taken for dead."""

_GONE = {
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
}
CPU_CLOCK = "unable to get accurate cpu usage"
"""QEMU times LUKS' key derivation; on a machine with a coarse clock that fails now and then."""
FIREWALL_RACE = "failed to apply firewall rules"
"""Another program, such as the egress keeper, changed the kernel's rules in the same instant."""
_GONE_WORDS = ("client socket is closed", "end of file while reading data", "connection reset", "broken pipe")
_BUSY = {libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_ERR_RESOURCE_BUSY, libvirt.VIR_ERR_AGENT_UNRESPONSIVE}
_BUSY_WORDS = (
    "asynchronous jobs running",
    "state change lock",
    "still being allocated",
    "is in use",
    CPU_CLOCK,
    FIREWALL_RACE,
)
_TAKEN_WORDS = "network is already in use by interface"
_FULL_WORDS = ("no space left", "not enough free space", "disk quota exceeded")
_UNABLE = {
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
}

P = ParamSpec("P")
T = TypeVar("T")
_lock = threading.Lock()
_loop_process: int | None = None
_open: "weakref.WeakSet[Connection]" = weakref.WeakSet()


def _silence() -> None:
    """Keep libvirt from printing every error to standard error; they are raised anyway."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)


def translate(error: libvirt.libvirtError, doing: str) -> DriverError:
    """Our error for libvirt's, with its words after what was being done."""
    code = error.get_error_code()
    said = error.get_error_message() or str(error)
    words = said.lower()
    if code in _GONE or any(word in words for word in _GONE_WORDS):
        return HostUnreachable(
            f"The connection to libvirt broke while {doing}: {said}. See that libvirtd runs."
        )
    if any(word in words for word in _FULL_WORDS):
        return NoSpace(f"The pool's disk is full: {said}. Free space or enlarge it, then try again.")
    if code in _BUSY or any(word in words for word in _BUSY_WORDS):
        return HostBusy(f"libvirt was busy while {doing}: {said}.")
    if code in _UNABLE:
        return Unsupported(f"This host cannot do it ({doing}): {said}.")
    if _TAKEN_WORDS in words:
        return CallFailed(
            f"The runtime's network is in use on the host for something else: {said}. Remove that interface, "
            "or give this fleet another PORTAL_NETWORK_POOL before its first guest."
        )
    return CallFailed(f"libvirt refused while {doing}: {said}.")


def translated(doing: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator: a libvirt error inside becomes a `DriverError` that says what was being done."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except libvirt.libvirtError as error:
                raise translate(error, doing) from None

        return wrapped

    return decorate


def found(lookup: Callable[[], Any], absent: int) -> Any | None:
    """What ``lookup`` finds, or None if libvirt answers with the code ``absent``."""
    try:
        return lookup()
    except libvirt.libvirtError as error:
        if error.get_error_code() == absent:
            return None
        raise


class Connection:
    """One open connection, usable in the process that opened it and nowhere else."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._process = os.getpid()
        _open.add(self)

    @property
    def raw(self) -> Any:
        """The ``virConnect``.

        Raises:
            HostUnreachable: closed, or inherited through a fork.
        """
        if self._raw is None or self._process != os.getpid():
            raise HostUnreachable(
                "This connection to libvirt is closed or belongs to another process. Open one."
            )
        return self._raw

    def close(self) -> None:
        """Close; again is harmless."""
        raw, self._raw = self._raw, None
        if raw is not None and self._process == os.getpid():
            _close_quietly(raw)

    def disarm(self) -> None:
        """In a forked child: forget the parent's socket without writing to it."""
        if self._raw is not None:
            self._raw._o = None  # else its finalizer would say goodbye in the parent's name
            self._raw = None


def open_connection(uri: str, timeout_seconds: float = OPEN_TIMEOUT_SECONDS) -> Connection:
    """Connect to ``uri``.

    Raises:
        HostUnreachable: refused, not there, no answer within ``timeout_seconds``, or this process was
            forked from one that had a connection.
    """
    _start_event_loop()
    raw = _open_within(uri, timeout_seconds)
    connection = Connection(raw)
    with suppress(libvirt.libvirtError):  # an in-process driver has no socket to keep alive
        raw.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
    return connection


def _open_within(uri: str, seconds: float) -> Any:
    """Open in a thread, since libvirt sets no time limit for a daemon that accepts and stays silent."""
    answer: list[Any] = []
    late = threading.Event()

    def attempt() -> None:
        try:
            raw = libvirt.open(uri)
        except libvirt.libvirtError as error:
            answer.append(error)
            return
        if late.is_set():
            _close_quietly(raw)
        answer.append(raw)

    thread = threading.Thread(target=attempt, name="libvirt-open", daemon=True)
    thread.start()
    thread.join(seconds)
    if not answer:
        late.set()
        raise HostUnreachable(
            f"libvirt at {uri} did not answer within {seconds:.0f} s. See that libvirtd is well."
        )
    if isinstance(answer[0], libvirt.libvirtError):
        said = answer[0].get_error_message()
        raise HostUnreachable(
            f"Cannot reach libvirt at {uri}: {said}. Start libvirtd, check the URI, "
            "and see that this Unix user may use its socket."
        )
    return answer[0]


def _close_quietly(raw: Any) -> None:
    with suppress(libvirt.libvirtError):  # it broke earlier: nothing is left to close
        raw.close()


def _start_event_loop() -> None:
    global _loop_process
    with _lock:
        if _loop_process is None:
            _silence()
            libvirt.virEventRegisterDefaultImpl()
            threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True).start()
            _loop_process = os.getpid()
    if _loop_process != os.getpid():
        raise HostUnreachable(
            "This process was forked from one that used libvirt, so it cannot. Start a new process instead."
        )


def _run_event_loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            continue  # one bad turn must not end keepalive for every connection


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for connection in list(_open):
        connection.disarm()


os.register_at_fork(after_in_child=_after_fork)
