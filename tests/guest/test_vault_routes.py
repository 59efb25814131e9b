"""The vault's routes on a real agent: every answer, every refusal, and nothing said of a value."""

import json
import time
from base64 import b64encode
from typing import Any

import pytest

from guest.agent.gate import ACCESS, Access
from protocol.enrolment import PROXY_URI
from protocol.sealed import MAX_SECRET_BYTES
from protocol.tokens import sign
from tests.guest.boxes import CANARY, NAME, boxed, found_in, opened, traces
from tests.guest.conftest import Site
from tests.guest.fleet import (
    ROUTE_SEED,
    TENANT_ID,
    TOKEN_SEED,
    Agent,
    Authority,
    caller,
    running,
    start,
    token,
)
from tests.guest.test_gate import call, pin, proof, sign_in
from tests.protocol.people import MEMBER, OWNER, entry

MISSING = "00" * 8
CONTROL = {
    ("GET", "/v1/secrets"): None,
    ("PUT", "/v1/secrets"): {"name": NAME, "version": 1, "key_id": MISSING, "sealed": "A" * 64},
    ("POST", "/v1/secrets/revoke"): {"name": NAME, "version": 1},
    ("POST", "/v1/secrets/export"): {"name": NAME},
    ("POST", "/v1/sealing-key/rotate"): {"from": MISSING},
    ("POST", "/v1/sealing-key/retire"): {"id": MISSING},
}


def public(agent: Agent, site: Site) -> bytes:
    return bytes.fromhex(call(agent, site, "GET", "/v1/status")[1]["sealing_public_key"])


def current(agent: Agent, site: Site) -> str:
    return str(call(agent, site, "GET", "/v1/secrets")[1]["sealing"]["current"]["id"])


def test_a_life(site: Site) -> None:
    """Delivered, rotated, exported, retired, revoked; each step again; and all of it after a restart."""
    with running(site.personalisation, site.data) as agent:
        body, old = boxed(public(agent, site)), current(agent, site)
        held = (200, {"name": NAME, "version": 1, "state": "held"})
        for _ in range(2):
            assert call(agent, site, "PUT", "/v1/secrets", body) == held
        rotated = call(agent, site, "POST", "/v1/sealing-key/rotate", {"from": old})
        assert rotated[0] == 200
        assert rotated == call(agent, site, "POST", "/v1/sealing-key/rotate", {"from": old})
        assert rotated == call(agent, site, "GET", "/v1/secrets")
        sealing, new = rotated[1]["sealing"], rotated[1]["sealing"]["current"]
        assert (sealing["previous"]["id"], new["public_key"]) == (old, public(agent, site).hex())
        assert rotated[1]["secrets"] == [{"name": NAME, "version": 1, "state": "held", "key_id": new["id"]}]
        _, exported = call(agent, site, "POST", "/v1/secrets/export", {"name": NAME})
        assert {**exported, "sealed": ""} == {"name": NAME, "version": 1, "key_id": new["id"], "sealed": ""}
        assert call(agent, site, "PUT", "/v1/secrets", body) == held
        assert call(agent, site, "PUT", "/v1/secrets", exported) == held
        for _ in range(2):
            said = call(agent, site, "POST", "/v1/sealing-key/retire", {"id": old})
            assert (said[0], said[1]["sealing"]) == (200, {"current": new, "previous": None})
    assert opened(site.data).open_secret(NAME) == CANARY
    with running(site.personalisation, site.data) as agent:
        assert call(agent, site, "GET", "/v1/secrets") == said
        gone = (200, {"name": NAME, "version": 2, "state": "revoked"})
        for _ in range(2):
            assert call(agent, site, "POST", "/v1/secrets/revoke", {"name": NAME, "version": 2}) == gone
        secrets = call(agent, site, "GET", "/v1/secrets")[1]["secrets"]
        assert secrets == [{"name": NAME, "version": 2, "state": "revoked", "key_id": None}]


def test_every_refusal(agent: Agent, site: Site) -> None:
    """In the one shape, by the code that the portal knows, with a message that quotes nothing."""
    key, old = public(agent, site), current(agent, site)
    body = boxed(key, version=5)
    assert call(agent, site, "PUT", "/v1/secrets", body)[0] == 200
    assert call(agent, site, "POST", "/v1/secrets/revoke", {"name": "GONE", "version": 5})[0] == 200
    call(agent, site, "POST", "/v1/sealing-key/rotate", {"from": old})
    new = current(agent, site)
    wrong_key = boxed(key, version=6) | {"key_id": new}
    asked: list[tuple[str, str, Any, int, str]] = [
        ("PUT", "/v1/secrets", body | {"name": "lower"}, 422, "malformed"),
        ("PUT", "/v1/secrets", body | {"version": "5"}, 422, "malformed"),
        ("PUT", "/v1/secrets", body | {"sealed": "AAAA"}, 422, "malformed"),
        ("PUT", "/v1/secrets", wrong_key, 422, "cannot_open"),
        ("PUT", "/v1/secrets", boxed(key, version=5), 409, "rolled_back"),
        ("PUT", "/v1/secrets", boxed(key, version=4), 409, "rolled_back"),
        ("PUT", "/v1/secrets", boxed(key, version=5, name="GONE"), 409, "rolled_back"),
        ("PUT", "/v1/secrets", body | {"version": 6, "key_id": MISSING}, 409, "unknown_key"),
        ("PUT", "/v1/secrets", {"name": NAME}, 400, "bad_request"),
        ("PUT", "/v1/secrets", body | {"more": 1}, 400, "bad_request"),
        ("PUT", "/v1/secrets", b"[" * 60_000, 400, "bad_request"),
        ("PUT", "/v1/secrets", b'{"version":' + b"9" * 5000 + b"}", 400, "bad_request"),
        ("PUT", "/v1/secrets", body | {"sealed": "A" * 65_536}, 413, "too_large"),
        ("POST", "/v1/secrets/revoke", {"name": NAME, "version": 4}, 409, "rolled_back"),
        ("POST", "/v1/secrets/revoke", {"name": NAME, "version": None}, 422, "malformed"),
        ("POST", "/v1/secrets/export", {"name": "OTHER"}, 404, "no_such_secret"),
        ("POST", "/v1/secrets/export", {"name": "GONE"}, 404, "no_such_secret"),
        ("POST", "/v1/secrets/export", {"name": {}}, 422, "malformed"),
        ("POST", "/v1/sealing-key/rotate", {"from": MISSING}, 409, "not_current"),
        ("POST", "/v1/sealing-key/rotate", {"from": new}, 409, "rotation_unfinished"),
        ("POST", "/v1/sealing-key/rotate", {"from": 7}, 422, "malformed"),
        ("POST", "/v1/sealing-key/retire", {"id": new}, 409, "in_use"),
        ("POST", "/v1/sealing-key/retire", {"id": "x"}, 422, "malformed"),
    ]
    before = call(agent, site, "GET", "/v1/secrets")
    for method, path, given, status, code in asked:
        said, answer = call(agent, site, method, path, given)
        assert (said, answer["error"], sorted(answer)) == (status, code, ["error", "message"]), (path, given)
        time.sleep(0.05)  # stays below the rate limit
    assert call(agent, site, "GET", "/v1/secrets") == before


def test_the_longest_secret_fits_a_body(agent: Agent, site: Site) -> None:
    body = boxed(public(agent, site), b"\xff" * MAX_SECRET_BYTES, "N" * 64, 2**31 - 1)
    assert call(agent, site, "PUT", "/v1/secrets", body)[1]["state"] == "held"
    answer = call(agent, site, "POST", "/v1/secrets/export", {"name": "N" * 64})[1]
    assert answer == {**body}


def test_sixty_four_names(agent: Agent, site: Site) -> None:
    """One more is refused by its own code, and the whole statement still fits an answer."""
    key = public(agent, site)
    for number in range(65):
        status, answer = call(agent, site, "PUT", "/v1/secrets", boxed(key, name=f"N{number}"))
        time.sleep(0.06)  # stays below the rate limit
    assert (status, answer["error"]) == (409, "too_many")
    assert len(call(agent, site, "GET", "/v1/secrets")[1]["secrets"]) == 64


# Who may ask


@pytest.mark.parametrize(("method", "path"), CONTROL)
def test_only_the_control_plane(agent: Agent, site: Site, method: str, path: str) -> None:
    """With the very body: no certificate but its own, no key but its own, no token for another body or none."""
    body = CONTROL[method, path]
    content = b"" if body is None else json.dumps(body).encode()
    assert ACCESS[method, path] is Access.CONTROL
    proxy = caller(site.folder, "proxy", site.authority, uri=PROXY_URI).context()
    assert agent.call(proxy, method, path, body)[1]["error"] == "not_for_this_caller"
    stranger = caller(site.folder, "stranger", Authority()).context()
    with pytest.raises(OSError):
        agent.call(stranger, method, path, body)
    for seed, asked, code in (
        (ROUTE_SEED, token(method, path, content), "token_invalid"),
        (ROUTE_SEED, token(method, path, None), "token_invalid"),
        (bytes(32), token(method, path, content), "token_invalid"),
        (TOKEN_SEED, token(method, path, None), "token_wrong_request"),
        (TOKEN_SEED, token(method, path, b"another body"), "token_wrong_request"),
        (TOKEN_SEED, token(method, path, content, aud=TENANT_ID), "token_wrong_request"),
        (TOKEN_SEED, token(method, path, content, exp=1, iat=0, nbf=0), "token_expired"),
    ):
        bearer = f"Bearer {sign(asked, seed)}"
        status, answer = call(agent, site, method, path, body, Authorization=bearer)
        assert (status, answer["error"]) == (401, code)
    bearer = f"Bearer {sign(token(method, path, content), TOKEN_SEED)}"
    call(agent, site, method, path, body, Authorization=bearer)
    again = call(agent, site, method, path, body, Authorization=bearer)
    assert (again[0], again[1]["error"]) == (401, "token_replayed")


def test_a_member_looks(agent: Agent, site: Site) -> None:
    """Any member sees what the portal sees of the vault; without a session nobody does."""
    call(agent, site, "PUT", "/v1/secrets", boxed(public(agent, site)))
    pin(agent, site, entry(OWNER.key), entry(MEMBER.key, "member"))
    name = sign_in(agent, site, MEMBER)[1]["session"]
    assert call(agent, site, "GET", "/v1/vault")[1]["error"] == "session_required"
    said = call(agent, site, "GET", "/v1/vault", **proof(name, "GET", "/v1/vault", 1, MEMBER))
    assert said == call(agent, site, "GET", "/v1/secrets")
    assert said[1]["secrets"][0]["name"] == NAME
    call(agent, site, "PUT", "/v1/suspended", {"suspended": True})
    said = call(agent, site, "GET", "/v1/vault", **proof(name, "GET", "/v1/vault", 2, MEMBER))
    assert said[1]["error"] == "suspended"


def test_members_are_told_the_new_key(agent: Agent, site: Site) -> None:
    """Status, members' page and enrolment state the key of now, not the first one."""
    pin(agent, site)
    name = sign_in(agent, site)[1]["session"]
    first = public(agent, site)
    call(agent, site, "POST", "/v1/sealing-key/rotate", {"from": current(agent, site)})
    told = call(agent, site, "GET", "/v1/members", **proof(name, "GET", "/v1/members", 1))[1]
    enrolling = call(agent, site, "POST", "/v1/enrol", {"nonce": "ab" * 32})[1]
    assert public(agent, site) != first
    for each in (told, enrolling):
        assert each["sealing_public_key"] == public(agent, site).hex()


# What must not be seen


def test_a_canary_goes_through_every_flow(site: Site) -> None:
    """Good deliveries, bad ones that hold it in clear, rotation, export, revocation: it is nowhere afterwards."""
    said: list[str] = []
    with running(site.personalisation, site.data) as agent:

        def ask(method: str, path: str, body: Any = None) -> Any:
            status, answer = call(agent, site, method, path, body)
            said.append(json.dumps(answer))
            return status, answer

        clear = CANARY.decode()
        body, old = boxed(public(agent, site)), current(agent, site)
        ask("PUT", "/v1/secrets", body)
        for changed in (
            {"sealed": clear},
            {"sealed": b64encode(CANARY * 4).decode(), "version": 2},
            {"name": clear},
            {"version": clear},
            {"key_id": clear},
            {clear: clear},
        ):
            assert ask("PUT", "/v1/secrets", body | changed)[0] in {400, 422}
        ask("PUT", "/v1/secrets", CANARY)
        ask("GET", f"/v1/secrets/{clear}")
        ask("POST", "/v1/sealing-key/rotate", {"from": clear})
        ask("POST", "/v1/sealing-key/retire", {"id": clear})
        ask("POST", "/v1/secrets/export", {"name": clear})
        ask("POST", "/v1/sealing-key/rotate", {"from": old})
        ask("POST", "/v1/secrets/export", {"name": NAME})
        ask("POST", "/v1/sealing-key/retire", {"id": old})
        assert found_in(site.folder, CANARY) == []
        assert opened(site.data).open_secret(NAME) == CANARY, "it was there to be found"
        ask("POST", "/v1/secrets/revoke", {"name": NAME, "version": 2})
        ask("GET", "/v1/secrets")
        agent.process.terminate()
        _, log = agent.process.communicate(timeout=5)
    assert found_in(site.folder, CANARY) == []
    for trace in traces(CANARY):
        assert trace.decode() not in log
        assert trace.decode() not in "".join(said)


def test_a_failing_disk_tells_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks inside, the answer is 500 and the log has the kind of failure only."""
    with running(site.personalisation, site.data) as agent:
        body = boxed(public(agent, site))
        for path in (site.data / ".vault.json.new", site.data / ".vault.json.old"):
            path.mkdir()
            status, answer = call(agent, site, "PUT", "/v1/secrets", body)
            assert (status, answer["error"]) == (500, "internal")
            path.rmdir()
        assert call(agent, site, "PUT", "/v1/secrets", body)[0] == 200
        agent.process.terminate()
        _, log = agent.process.communicate(timeout=5)
    assert "PUT /v1/secrets failed: IsADirectoryError" in log
    assert body["sealed"] not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("name", ["vault.json", "sealing"])
def test_a_damaged_vault_stops_the_agent(site: Site, name: str) -> None:
    """With a line that says which file, no traceback, and the file untouched."""
    with running(site.personalisation, site.data) as agent:
        call(agent, site, "PUT", "/v1/secrets", boxed(public(agent, site)))
    (path,) = (each for each in site.data.iterdir() if each.name.startswith(name))
    path.write_bytes(b"damaged")
    process = start(site.personalisation, site.data)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"cannot start: {path.name} is damaged" in said
    assert "Traceback" not in said
    assert path.read_bytes() == b"damaged"
