"""What stands in for the internet: name server, TLS server with an authority of its own, plain HTTP. All in threads
of the test, on sockets that were made in a network namespace.
"""

import contextlib
import datetime
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

A, AAAA = 1, 28
NXDOMAIN, SERVFAIL = 3, 2
GREETING = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"


@dataclass(frozen=True)
class Answer:
    """What the name server says for a name."""

    a: tuple[str, ...] = ()
    aaaa: tuple[str, ...] = ()
    ttl: int = 60
    code: int = 0
    delay: float = 0.0


@dataclass
class Arrival:
    """A connection that reached a server."""

    address: str
    port: int
    name: str | None


@dataclass
class Outside:
    """The servers, and what reached them."""

    make: Callable[[int, int], socket.socket]
    """A socket of a family and type, in the outside's namespace."""
    folder: Path
    """Where the authority's certificate goes, and what the TLS server hands out."""
    answers: dict[str, Answer | Callable[[int], Answer]] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def authority(self) -> Path:
        return self.folder / "authority.pem"

    def start(self, names: tuple[str, ...]) -> None:
        context = _context(self.folder, names)
        self._serve(self._listener(socket.AF_INET, "0.0.0.0", 443), lambda line: self._tls(line, context))  # noqa: S104
        self._serve(self._listener(socket.AF_INET6, "::", 443), lambda line: self._tls(line, context))
        self._serve(self._listener(socket.AF_INET, "0.0.0.0", 80), self._plain)  # noqa: S104
        server = self.make(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("198.51.100.1", 53))
        self._open.append(server)
        threading.Thread(target=self._names, args=(server,), daemon=True).start()

    def stop(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _listener(self, family: int, address: str, port: int) -> socket.socket:
        line = self.make(family, socket.SOCK_STREAM)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        line.bind((address, port))
        line.listen(512)
        self._open.append(line)
        return line

    def _serve(self, listener: socket.socket, handle: Callable[[socket.socket], None]) -> None:
        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    line, _ = listener.accept()
                    threading.Thread(target=one, args=(line,), daemon=True).start()

        def one(line: socket.socket) -> None:
            with contextlib.suppress(OSError), line:
                handle(line)

        threading.Thread(target=take, daemon=True).start()

    def _plain(self, line: socket.socket) -> None:
        address, port = line.getsockname()[:2]
        self.arrivals.append(Arrival(address, port, None))
        line.recv(4096)
        line.sendall(GREETING)

    def _tls(self, line: socket.socket, context: ssl.SSLContext) -> None:
        address, port = line.getsockname()[:2]
        arrival = Arrival(address, port, None)
        self.arrivals.append(arrival)
        with context.wrap_socket(line, server_side=True) as safe:
            arrival.name = getattr(safe, "asked_name", None)
            self._speak(safe)

    def _speak(self, line: ssl.SSLSocket) -> None:
        """GET is answered from the folder; anything else comes back as it is."""
        first = line.recv(65536)
        if first.startswith(b"GET "):
            path = self.folder / "files" / first.split(b" ")[1].decode().lstrip("/").partition("?")[0]
            found = path.is_file() or path == self.folder / "files"
            body = path.read_bytes() if path.is_file() else b"hello\n"
            status = b"200 OK" if found else b"404 Not Found"
            line.sendall(
                b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
            )
            return
        while first:
            line.sendall(first)
            first = line.recv(65536)

    def _names(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, sender = server.recvfrom(4096)
                if not query:
                    return  # the end: the socket was shut down
                threading.Thread(target=self._answer, args=(server, query, sender), daemon=True).start()

    def _answer(self, server: socket.socket, query: bytes, sender: tuple[str, int]) -> None:
        name, kind, end = _question(query)
        self.asked.append((name, kind))
        found = self.answers.get(name, Answer(code=NXDOMAIN))
        answer = found(kind) if callable(found) else found
        time.sleep(answer.delay)
        with contextlib.suppress(OSError):
            server.sendto(_reply(query[: end + 4], kind, answer), sender)


def _question(query: bytes) -> tuple[str, int, int]:
    place, labels = 12, []
    while query[place]:
        labels.append(query[place + 1 : place + 1 + query[place]].decode())
        place += query[place] + 1
    (kind,) = struct.unpack(">H", query[place + 1 : place + 3])
    return ".".join(labels).lower(), kind, place + 1


def _reply(question: bytes, kind: int, answer: Answer) -> bytes:
    found = {A: answer.a, AAAA: answer.aaaa}.get(kind, ())
    head = question[:2] + struct.pack(">HHHHH", 0x8180 | answer.code, 1, len(found), 0, 0)
    family = socket.AF_INET if kind == A else socket.AF_INET6
    body = b""
    for each in found:
        raw = socket.inet_pton(family, each)
        body += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, answer.ttl, len(raw)) + raw
    return head + question[12:] + body


def _context(folder: Path, names: tuple[str, ...]) -> ssl.SSLContext:
    """A server's certificate for ``names``, signed by an authority that only the tests trust."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("Stand-in authority", authority_key.public_key(), authority_key, None, ())
    leaf = _certificate("stand-in", key.public_key(), authority_key, authority, names)
    pem = serialization.Encoding.PEM
    (folder / "authority.pem").write_bytes(authority.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + leaf.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")

    def note(line: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
        line.asked_name = name  # type: ignore[union-attr]

    context.sni_callback = note
    return context


def _certificate(
    subject: str,
    key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    names: tuple[str, ...],
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer else name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False
        )
    return builder.sign(signer, hashes.SHA256())
