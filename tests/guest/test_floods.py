"""Too much of everything, on a real agent: it refuses, stays up, and stays small."""

import http.client
import socket
import threading
from pathlib import Path

from protocol.tokens import sign
from tests.guest.conftest import Site
from tests.guest.fleet import TOKEN_SEED, Agent, token
from tests.guest.test_gate import call

REQUESTS, CONNECTIONS = 10_000, 8


def memory_kib(agent: Agent) -> int:
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_a_header_of_ten_megabytes(agent: Agent, site: Site) -> None:
    """Cut off long before its end; not kept in memory."""
    before = memory_kib(agent)
    plain = socket.create_connection(("127.0.0.1", agent.port), timeout=10)
    with site.control_plane.context().wrap_socket(plain) as line:
        sent = 0
        try:
            line.sendall(b"GET /v1/health HTTP/1.1\r\nHost: guest\r\nX: ")
            while sent < 10_000_000:
                line.sendall(b"x" * 16_384)
                sent += 16_384
        except OSError:
            pass
    assert sent < 10_000_000
    assert call(agent, site, "GET", "/v1/health")[0] == 200
    assert memory_kib(agent) - before < 20_000


def test_ten_thousand_requests(agent: Agent, site: Site) -> None:
    """One caller's flood: almost all are turned away, another's request passes meanwhile, nothing piles up."""
    before, answers, lock = memory_kib(agent), dict[int, int](), threading.Lock()

    def flood(number: int) -> None:
        line = http.client.HTTPSConnection(
            "127.0.0.1", agent.port, context=site.control_plane.context(), timeout=20
        )
        for _ in range(REQUESTS // CONNECTIONS):
            made = sign(token("GET", "/v1/status", sub="user:flood"), TOKEN_SEED)
            line.request("GET", "/v1/status", headers={"Authorization": f"Bearer {made}"})
            answer = line.getresponse()
            answer.read()
            with lock:
                answers[answer.status] = answers.get(answer.status, 0) + 1
        line.close()

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    quiet = [call(agent, site, "GET", "/v1/status")[0] for _ in range(5)]
    for thread in threads:
        thread.join(120)
    assert quiet == [200] * 5
    assert sum(answers.values()) == REQUESTS
    assert answers.keys() == {200, 429}
    assert answers[429] > answers[200]
    assert call(agent, site, "GET", "/v1/health")[0] == 200
    assert memory_kib(agent) - before < 30_000
