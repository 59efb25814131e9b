"""What the boundary costs: requests to an agent with every check on, and the checks by themselves.

The agent runs as a local process, so these are this machine's figures without a guest's.
"""

import http.client
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

from bench import files
from protocol.persons import Purpose
from protocol.sessions import PROOF_HEADER, SESSION_HEADER, Request, prove
from protocol.tokens import Expected, body_hash, public_key, sign, verify_runtime_token
from tests.guest import fleet
from tests.protocol.people import OWNER, keyring

REQUESTS = 400
ROUNDS = 500


def measure() -> dict[str, Any]:
    """Milliseconds per request and per check, requests per second."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        authority = fleet.Authority()
        portal = fleet.caller(folder, "control-plane", authority)
        with fleet.running(fleet.personalise(folder, authority), folder / "data") as agent:
            context = portal.context()
            line = http.client.HTTPSConnection("127.0.0.1", agent.port, context=context, timeout=10)
            bare = _timed(lambda _: _ask(line, "/v1/health", None))
            checked = _timed(lambda number: _ask(line, "/v1/status", f"user:{number // 20}"))
            (folder / "workspace").mkdir()
            session = _sign_in(agent, context)
            content = _timed(lambda number: _ask_as_member(line, session, number))
            moved = files.measure(folder, line, session, REQUESTS)
            line.close()
    return {
        "requests_per_second": 1000 * REQUESTS / sum(checked),
        "content_requests_per_second": 1000 * REQUESTS / sum(content),
        "content_p99_ms": quantiles(content, n=100)[98],
        "p50_ms": median(checked),
        "p99_ms": quantiles(checked, n=100)[98],
        "without_checks_p50_ms": median(bare),
        "token_check_ms": _token_check(),
        "device_signature_check_ms": _signature_check(),
        **moved,
    }


def _timed(ask: Callable[[int], None]) -> list[float]:
    taken = []
    for number in range(REQUESTS):
        began = time.perf_counter()
        ask(number)
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def _sign_in(agent: fleet.Agent, context: ssl.SSLContext) -> str:
    """A device key's session, on a guest that has pinned the key."""
    document = keyring(fleet.TENANT_ID)
    pinned = {"document": document, "signature": OWNER.sign(Purpose.KEYRING, document)}
    agent.call(context, "PUT", "/v1/keyring", pinned)
    _, challenge = agent.call(context, "POST", "/v1/sessions/challenge")
    signature = {**OWNER.sign(Purpose.SESSION, challenge), "nonce": challenge["nonce"]}
    _, begun = agent.call(context, "POST", "/v1/sessions", {"signature": signature})
    return str(begun["session"])


def _ask_as_member(line: http.client.HTTPSConnection, session: str, number: int) -> None:
    """A content route: token, session and the request's own signature are checked."""
    path = "/v1/workspace"
    shown = prove(OWNER.seed, session, Request.of("GET", path), number + 1)
    _ask(line, path, f"member:{number // 20}", {SESSION_HEADER: session, PROOF_HEADER: shown})


def _ask(
    line: http.client.HTTPSConnection, path: str, actor: str | None, more: dict[str, str] | None = None
) -> None:
    headers = dict(more or {})
    if actor is not None:
        # A new actor every 20 requests, so that the limit per actor is not what is measured.
        text = sign(fleet.token("GET", path, sub=actor), fleet.TOKEN_SEED)
        headers["Authorization"] = f"Bearer {text}"
    line.request("GET", path, headers=headers)
    answer = line.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}")


def _token_check() -> float:
    text = sign(fleet.token("GET", "/v1/status"), fleet.TOKEN_SEED)
    keys = [public_key(fleet.TOKEN_SEED)]
    wanted = Expected(
        fleet.RUNTIME_ID, fleet.TENANT_ID, "GET", "/v1/status", body_hash(b""), int(time.time())
    )
    began = time.perf_counter()
    for _ in range(ROUNDS):
        verify_runtime_token(text, keys, wanted)
    return 1000 * (time.perf_counter() - began) / ROUNDS


def _signature_check() -> float:
    from protocol.persons import verify

    document = {"session": "x" * 43, "counter": 1}
    made = OWNER.sign(Purpose.REQUEST, document)
    began = time.perf_counter()
    for _ in range(ROUNDS):
        verify(OWNER.key, made, Purpose.REQUEST, document)
    return 1000 * (time.perf_counter() - began) / ROUNDS
