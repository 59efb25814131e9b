"""Named fault points: tests stop a process at any chosen instant of its writes and its dealings with a host.

``PORTAL_FAULT="<point>=<action>[@n]"`` arms one point for its n-th hit (default: the first), and only
when ``PORTAL_ALLOW_FAULTS=1``. Actions: ``kill`` (SIGKILL to the own process; ``kill:<ms>`` sets the
delay of a ``:during`` point, 2 ms otherwise), ``raise`` (`InjectedFault`), ``sleep:<s>``.
"""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

_SETTING = re.compile(
    r"(?P<point>[\w.]+:(?:before|during|after))=(?P<action>kill|raise|sleep)(?::(?P<value>\d+(?:\.\d+)?))?"
    r"(?:@(?P<hit>[1-9]\d*))?"
)
DURING_MS = 2.0


class InjectedFault(Exception):
    """Raised by an armed point; never by anything else."""


@dataclass
class _Armed:
    point: str
    action: str
    value: float | None
    hits_left: int


_armed: _Armed | None = None


def arm(environment: Mapping[str, str] = os.environ) -> None:
    """Read the setting anew. Done once at import; tests may call it again.

    Raises:
        ValueError: faults are allowed and the setting cannot be read.
    """
    global _armed
    setting = environment.get("PORTAL_FAULT", "")
    if environment.get("PORTAL_ALLOW_FAULTS") != "1" or not setting:
        _armed = None
        return
    match = _SETTING.fullmatch(setting)
    if match is None:
        raise ValueError(f"PORTAL_FAULT is not '<point>=kill|raise|sleep:<s>[@n]': {setting!r}")
    value = float(match["value"]) if match["value"] else None
    _armed = _Armed(match["point"], match["action"], value, int(match["hit"] or 1))


def fault_point(name: str) -> None:
    """Fire if ``name`` (such as ``step.volume:before``) is armed; otherwise nothing."""
    if _armed is not None and _hit(name):
        _fire(_armed)


@contextmanager
def around(call: str) -> Iterator[None]:
    """Fire ``call:before``, ``call:during`` and ``call:after`` around the enclosed call, where armed."""
    if _armed is None:
        yield
        return
    fault_point(f"{call}:before")
    during = _armed if _hit(f"{call}:during") else None
    killer = _kill_soon(during) if during and during.action == "kill" else None
    yield
    if killer is not None:
        killer.join()  # a call shorter than the delay must not outrun it
    elif during is not None:
        _fire(during)
    fault_point(f"{call}:after")


def _hit(name: str) -> bool:
    if _armed is None or _armed.point != name:
        return False
    _armed.hits_left -= 1
    return _armed.hits_left == 0


def _fire(armed: _Armed) -> None:
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if armed.action == "raise":
        raise InjectedFault(armed.point)
    time.sleep(armed.value or 0.0)


def _kill_soon(armed: _Armed) -> threading.Thread:
    delay = (DURING_MS if armed.value is None else armed.value) / 1000

    def kill() -> None:
        time.sleep(delay)  # libvirt's binding and the database's give the interpreter lock away during a call
        os.kill(os.getpid(), signal.SIGKILL)

    thread = threading.Thread(target=kill, name="fault", daemon=True)
    thread.start()
    return thread


arm()
