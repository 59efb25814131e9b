"""Connectors from the command line: how each stands, and an owner's switch."""

from dataclasses import replace

import pytest

from tests.client.conftest import Person
from tests.client.fake import CONNECTORS, Answer, Fake


def test_the_list(fake: Fake, owner: Person) -> None:
    """One line for each; with ``--hosts`` what it reaches."""
    said = owner.ok("connectors", "list", "acme")
    assert said.split("\n")[1].split() == ["github", "disabled", "allowed", "by", "staff"]
    assert "github.com" not in said
    assert "github.com" in owner.ok("connectors", "list", "acme", "--hosts")
    fake.connector["reaches"] = [{"host": "x.example", "port": 8443, "why": "y"}]
    assert "x.example:8443" in owner.ok("connectors", "list", "acme", "--hosts")


def test_on_and_off(fake: Fake, owner: Person) -> None:
    """What is sent is the one word."""
    assert "github is on" in owner.ok("connectors", "enable", "acme", "github")
    assert fake.connector["enabled"] is True
    assert "github is off" in owner.ok("connectors", "disable", "acme", "github")
    assert fake.connector["enabled"] is False
    sent = [asked.document for asked in fake.asked if asked.method == "PATCH"]
    assert sent == [{"enabled": True}, {"enabled": False}]


def test_a_refusal_is_passed_on(fake: Fake, owner: Person) -> None:
    fake.connector["state"] = "forbidden"
    assert "not_permitted" in owner.refused("connectors", "enable", "acme", "github")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "GitHub", "a" * 70])
def test_a_bad_name_is_never_sent(fake: Fake, owner: Person, name: str) -> None:
    before = len(fake.asked)
    assert owner.run("connectors", "enable", "acme", name).status == 2
    assert len(fake.asked) == before


@pytest.mark.parametrize("change", [{"enabled": False}, {"connector": "gitlab"}, {"enabled": "yes"}])
def test_a_portal_that_does_something_else(fake: Fake, owner: Person, change: dict[str, object]) -> None:
    """It is believed only where it says what was asked of it."""
    fake.bent["PATCH", f"{CONNECTORS}/github/"] = lambda given: replace(
        given, document={**given.document, **change}
    )
    owner.refused("connectors", "enable", "acme", "github")


def test_nothing_that_a_terminal_would_obey(fake: Fake, owner: Person) -> None:
    """Whatever the portal sends."""
    fake.bent["GET", f"{CONNECTORS}/"] = lambda _given: Answer(
        200, {"connectors": [{**fake.connector, "change": "\x1b[2J"}]}
    )
    assert "\x1b" not in owner.ok("connectors", "list", "acme")
