"""Calls about secrets: repeated when a connection broke, on record without what they carry."""

import json
from typing import Any

import httpx
import pytest

from audit.context import command
from audit.models import Entry
from provisioning.models import Runtime
from provisioning.runtime_client import (
    MAX_ANSWER_BYTES,
    AgentRefused,
    ConnectionBroke,
    RuntimeClient,
    _answer,
)
from tenants.models import Tenant

SEALED = "dGVsbC10YWxl" * 8
CALLS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "secrets": ({}, ("GET", "/v1/secrets")),
    "deliver_secret": (
        {"name": "TELL_TALE", "version": 1, "key_id": "ab" * 8, "sealed": SEALED},
        ("PUT", "/v1/secrets"),
    ),
    "revoke_secret": ({"name": "TELL_TALE", "version": 2}, ("POST", "/v1/secrets/revoke")),
    "export_secret": ({"name": "TELL_TALE"}, ("POST", "/v1/secrets/export")),
    "rotate_sealing_key": ({"key_id": "ab" * 8}, ("POST", "/v1/sealing-key/rotate")),
    "retire_sealing_key": ({"key_id": "ab" * 8}, ("POST", "/v1/sealing-key/retire")),
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bytes]]:
    """What is sent; the first connection breaks, the second one answers."""
    found: list[tuple[str, str, bytes]] = []

    def send(_self: Any, method: str, path: str, content: bytes, token: str, **_given: Any) -> dict[str, Any]:
        found.append((method, path, content))
        if len(found) == 1:
            raise ConnectionBroke("It broke.")
        return {"state": "held"}

    monkeypatch.setattr(RuntimeClient, "_send", send)
    return found


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", CALLS)
def test_each_may_come_twice(name: str, tenant: Tenant, sent: list[tuple[str, str, bytes]]) -> None:
    """The guest answers a second one as the first, so a broken connection is no failure of the operation."""
    given, route = CALLS[name]
    client = RuntimeClient(Runtime(tenant=tenant), "127.0.0.1", 9, command("test"))
    assert getattr(client, name)(**given) == {"state": "held"}
    assert [each[:2] for each in sent] == [route, route]
    assert sent[0] == sent[1]
    entries = Entry.objects.filter(action__startswith="agent.").order_by("pk")
    assert [row.action.split(".")[1] for row in entries] == ["requested", "failed", "requested", "answered"]
    for row in entries:
        assert json.loads(row.event)["data"].keys() <= {"method", "path", "token", "outcome"}
        assert "TELL_TALE" not in str(row.event)


@pytest.mark.django_db(transaction=True)
def test_other_posts_do_not(tenant: Tenant, sent: list[tuple[str, str, bytes]]) -> None:
    """Asked once for a certificate, an agent is not asked again unseen."""
    with pytest.raises(ConnectionBroke):
        RuntimeClient(Runtime(tenant=tenant), "127.0.0.1", 9, command("test")).request_renewal()
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"error": "rolled_back", "message": "free text"}, "rolled_back"),
        ({"error": "my secret is hunter2"}, "unknown"),
        ({"error": "<script>"}, "unknown"),
        ({"error": "a" * 41}, "unknown"),
        ({"error": ["rolled_back"]}, "unknown"),
        ({"error": "rolled_back\n"}, "unknown"),
        (["rolled_back"], "unknown"),
    ],
)
def test_a_code_is_a_code(said: Any, code: str) -> None:
    """What a guest says of its refusal reaches messages and rows, so nothing but a code is taken."""
    with pytest.raises(AgentRefused) as caught:
        _answer(httpx.Response(409, json=said), MAX_ANSWER_BYTES)
    assert (caught.value.code, str(caught.value)) == (code, f"{code} (409)")
