"""A small witness as C2SP tlog-witness describes one: `add-checkpoint` over HTTP, on loopback."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from protocol.checkpoints import cosign
from protocol.notes import COSIGNATURE_V1, NoteError, VerifierKey, new_key
from protocol.witnessing import Refused, Request, State, judge

NAME = "witness.example/double"
STATUS = {"malformed": 400, "signature": 403, "origin": 404, "proof": 422, "forked": 409, "smaller": 409}
Answer = tuple[int, str, bytes]


@dataclass
class Double:
    """One witness, with what it holds and what it was asked. ``answer`` overrides what it would say."""

    log: VerifierKey
    state: State | None = None
    asked: list[Request] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    answer: Answer | None = None
    url: str = ""
    more: str = ""
    """Further signature lines, as of a witness that knows others."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of its answer."""
    drip: float = 0
    """Seconds between the bytes of its answer, whose head has no end then."""
    heads: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seed, key = new_key(NAME, COSIGNATURE_V1)
        self.vkey = str(key)

    def say(self, body: str) -> Answer:
        try:
            request = Request.parse(body)
        except NoteError:
            return 400, "text/plain", b""
        self.asked.append(request)
        if self.answer is not None:
            return self.answer
        try:
            accepted = judge(self.state, request, self.log)
        except Refused as refusal:
            if refusal.reason in {"stale", "smaller"}:
                return 409, "text/x.tlog.size", f"{refusal.size}\n".encode()
            return STATUS[refusal.reason], "text/plain", b"no"
        self.state = State(accepted.size, accepted.root)
        return (
            200,
            "text/plain",
            (self.more + cosign(request.note, NAME, self.seed, int(time.time()))).encode(),
        )


@contextmanager
def witness(log: VerifierKey) -> Iterator[Double]:
    """It listens for the time of the block."""
    double, gone = Double(log), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            double.paths.append(self.path)
            double.heads.append(dict(self.headers.items()))
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, kind, content = double.say(body)
            if double.drip:
                self.drip()
                return
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            for name, value in double.headers.items():
                self.send_header(name, value)
            if status == 302:
                self.send_header("Location", double.url)
            self.end_headers()
            self.wfile.write(content)

        def drip(self) -> None:
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not gone.wait(double.drip):
                    self.wfile.write(b"x")
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    double.url = f"http://127.0.0.1:{server.server_port}/log/"
    try:
        yield double
    finally:
        gone.set()
        server.shutdown()
        server.server_close()
        thread.join()
