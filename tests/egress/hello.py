"""TLS hellos as attackers would form them."""

import contextlib
import ssl
import struct


def hello(name: str | None) -> bytes:
    """One record with an honest hello that asks for ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    line = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        line.do_handshake()
    return outgoing.read()


def in_records(record: bytes, size: int) -> bytes:
    """The same hello, cut into records of ``size`` bytes."""
    head, body = record[:3], record[5:]
    pieces = [body[place : place + size] for place in range(0, len(body), size)]
    return b"".join(head + struct.pack(">H", len(piece)) + piece for piece in pieces)


def renamed(record: bytes, old: str, new: bytes) -> bytes:
    """The hello with the bytes of its server name replaced by others of the same length."""
    assert len(old) == len(new)
    assert record.count(old.encode()) == 1
    return record.replace(old.encode(), new)


def two_names(record: bytes, name: str, second: str) -> bytes:
    """The hello with a second entry in its list of server names."""
    entry = b"\x00" + struct.pack(">H", len(name)) + name.encode()
    more = b"\x00" + struct.pack(">H", len(second)) + second.encode()
    old = struct.pack(">HH", len(entry) + 2, len(entry)) + entry
    place = record.index(b"\x00\x00" + old)
    new = struct.pack(">HH", len(entry) + len(more) + 2, len(entry) + len(more)) + entry + more
    return _relengthened(record[:place] + b"\x00\x00" + new + record[place + 2 + len(old) :], len(more))


def two_extensions(record: bytes, name: str, second: str) -> bytes:
    """The hello with a second extension of server names behind the first."""
    entry = b"\x00" + struct.pack(">H", len(name)) + name.encode()
    old = b"\x00\x00" + struct.pack(">HH", len(entry) + 2, len(entry)) + entry
    other = b"\x00" + struct.pack(">H", len(second)) + second.encode()
    more = b"\x00\x00" + struct.pack(">HH", len(other) + 2, len(other)) + other
    place = record.index(old) + len(old)
    return _relengthened(record[:place] + more + record[place:], len(more))


def _relengthened(record: bytes, more: int) -> bytes:
    """Correct the lengths of record, handshake and extensions after ``more`` bytes came in."""
    body = bytearray(record)
    struct.pack_into(">H", body, 3, len(record) - 5)
    body[6:9] = (len(record) - 9).to_bytes(3, "big")
    place = 9 + 2 + 32
    place += 1 + body[place]
    place += 2 + int.from_bytes(body[place : place + 2], "big")
    place += 1 + body[place]
    struct.pack_into(">H", body, place, int.from_bytes(body[place : place + 2], "big") + more)
    return bytes(body)
