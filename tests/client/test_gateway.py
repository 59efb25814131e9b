"""The gateway from the command line: its state in words, the wait for ready, and what comes back of a word with it."""

from typing import Any

import pytest

from client.commands import gateway
from tests.client.conftest import Person
from tests.client.fake import Fake

READY = {"state": "ready", "reason": "", "model": None, "idle_seconds_left": 1740.0}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "PAUSE_SECONDS", 0.01)


def test_how_it_stands(fake: Fake, owner: Person) -> None:
    fake.gateway.told = {
        **READY,
        "model": {"base_url": "https://m.test/v1", "name": "m", "api": "x", "secret": "KEY"},
    }
    said = owner.ok("gateway", "status", "acme")
    assert said == (
        "The gateway is ready.\nModel: m at https://m.test/v1, key in KEY.\nIt stops after 29 min without use.\n"
    )


def test_start_waits(fake: Fake, owner: Person) -> None:
    """Until it is ready, or says why it is not."""
    fake.gateway.coming = [{**READY, "state": "starting"}, {**READY, "state": "starting"}, READY]
    assert "The gateway is ready." in owner.ok("gateway", "start", "acme")
    fake.gateway.coming = [{**READY, "state": "failed", "reason": "It crashed."}]
    ended = owner.run("gateway", "start", "acme")
    assert (ended.status, "The gateway is failed. It crashed." in ended.out) == (1, True)
    fake.gateway.coming = [
        {**READY, "state": "stopping"},
        {**READY, "state": "off", "reason": "A member stopped it."},
    ]
    assert "The gateway is off. A member stopped it." in owner.ok("gateway", "stop", "acme")


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["none"], None),
        (["rehearsal"], "rehearsal"),
        (
            ["own", "--base-url", "https://m.test/v1", "--name", "m", "--secret", "KEY"],
            {"base_url": "https://m.test/v1", "name": "m", "api": "openai-completions", "secret": "KEY"},
        ),
    ],
)
def test_choose_a_model(fake: Fake, owner: Person, words: list[str], sent: Any) -> None:
    owner.ok("gateway", "model", "acme", *words)
    assert fake.gateway.told["model"] == sent


def test_half_a_model(fake: Fake, owner: Person) -> None:
    assert "needs --base-url and --name" in owner.refused("gateway", "model", "acme", "own", "--name", "m")
    assert "go with: model TENANT own" in owner.refused("gateway", "model", "acme", "none", "--name", "m")
    assert owner.ok("gateway", "model", "acme") == "No model is chosen.\n"


def test_a_word_with_it(fake: Fake, owner: Person) -> None:
    """Control characters of an answer do not reach the terminal; one that sleeps is woken."""
    fake.gateway.says = "line one\n\x1b[31mred"
    assert owner.ok("gateway", "chat", "acme", "hello") == "line one\n?[31mred\n"
    assert fake.gateway.heard == "hello"
    fake.gateway.sleeps = 1
    assert "line one" in owner.ok("gateway", "chat", "acme", "hello")
    fake.gateway.says = None
    assert "holds no message" in owner.refused("gateway", "chat", "acme", "hello")
