"""Seeing where a marked packet turns up: on every interface of the host, and at the host's own protocols.

Packets are the evidence, so a capture that lost one proves nothing: `Capture.stop` raises if it did.
"""

import contextlib
import secrets
import select
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable

_ALL = 0x0003
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE = 33
_BUFFER = 64 << 20
_OUTGOING = 4
_PATIENCE = 30.0
RAW = {
    socket.AF_INET: (1, 2, 4, 6, 17, 41, 47, 50, 51, 89, 103, 112, 132, 136, 137, 255),
    socket.AF_INET6: (6, 17, 58),
}
"""Protocols at which a copy of what the host's own stack accepts is taken."""
_RUN = 8


class Markers:
    """Twelve bytes per name: eight that only this run has, four that tell the name."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.run = secrets.token_bytes(_RUN)

    def of(self, name: str) -> bytes:
        return self.run + struct.pack("!I", self.names.index(name))

    def found(self, data: bytes) -> set[str]:
        """Every name whose marker is in ``data``; also one written in hexadecimal."""
        names = set()
        for text, width, read in ((self.run, 4, bytes), (self.run.hex().encode(), 8, _read_hex)):
            at = data.find(text)
            while at >= 0:
                number = read(data[at + len(text) : at + len(text) + width])
                if len(number) == 4 and (index := struct.unpack("!I", number)[0]) < len(self.names):
                    names.add(self.names[index])
                at = data.find(text, at + 1)
        return names


def _read_hex(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode())
    except ValueError:
        return b""


class Capture:
    """Collects, between ``start`` and ``stop``, where each name's marker was seen.

    ``seen[name]`` holds places such as ``eth0 in``, ``eth0 out`` or ``host IPv4 17``.
    """

    def __init__(self, markers: Markers) -> None:
        self.markers = markers
        self.seen: dict[str, set[str]] = defaultdict(set)
        self._last = secrets.token_bytes(16)
        self._wire = _socket(socket.AF_PACKET, _ALL)
        self._host = {
            _socket(family, protocol): f"host IPv{4 if family == socket.AF_INET else 6} {protocol}"
            for family, protocols in RAW.items()
            for protocol in protocols
        }
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._frames, self._packets)]

    def __enter__(self) -> "Capture":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # What is read comes in order, so whoever has seen this has seen all that went before.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.sendto(self._last, ("127.0.0.1", 9))
        for thread in self._threads:
            thread.join(_PATIENCE)
        behind = any(thread.is_alive() for thread in self._threads)
        lost = struct.unpack("2I", self._wire.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        for each in (self._wire, *self._host):
            each.close()
        if lost or behind:
            raise AssertionError(f"the capture lost {lost} frames, or fell behind, so it proves nothing")

    def _frames(self) -> None:
        ended = False
        while not ended:
            data, (name, _protocol, kind, *_rest) = self._wire.recvfrom(65535)
            ended = self._last in data
            for found in self.markers.found(data):
                self.seen[found].add(f"{name} {'out' if kind == _OUTGOING else 'in'}")

    def _packets(self) -> None:
        ended = False
        while not ended:
            for each in select.select(list(self._host), [], [])[0]:
                ended |= self._take(each)
        for each in select.select(list(self._host), [], [], 0)[0]:
            self._take(each)

    def _take(self, source: socket.socket) -> bool:
        """Read all that waits in one of the host's sockets; whether the last packet was among it."""
        ended = False
        with contextlib.suppress(BlockingIOError):
            while not ended:
                data = source.recv(65535, socket.MSG_DONTWAIT)
                ended = self._last in data
                for found in self.markers.found(data):
                    self.seen[found].add(self._host[source])
        return ended


def _socket(family: socket.AddressFamily, protocol: int) -> socket.socket:
    network = socket.htons(protocol) if family == socket.AF_PACKET else protocol
    made = socket.socket(family, socket.SOCK_RAW, network)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    return made
