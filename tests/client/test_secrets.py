"""Secrets from the command line: sealed to the key that the guest states, or not at all."""

import base64
import getpass
import json
import sys
from typing import Any

import pytest
from nacl.public import PrivateKey

from client.errors import Failure
from client.sealing import FILE, judge
from protocol.sealed import MAX_SECRET_BYTES, key_id, unseal
from tests.client.conftest import Person
from tests.client.fake import SECRETS, Answer, Fake

MARKER = "ghp_marker-7f3a9c51e2d84b06"
GUEST = PrivateKey(bytes(range(32)))
PUBLIC = bytes(GUEST.public_key)
OTHER = bytes(PrivateKey(bytes(32)).public_key)


@pytest.fixture
def sealer(fake: Fake, owner: Person) -> Person:
    """An owner, and a guest whose key we hold."""
    fake.sealing = PUBLIC.hex()
    return owner


def sent(fake: Fake) -> list[bytes]:
    """What was handed in, opened as the guest does."""
    puts = [asked for asked in fake.asked if asked.method == "PUT" and asked.path.startswith(SECRETS)]
    return [unseal(bytes(GUEST), base64.b64decode(asked.document["encrypted_value"])) for asked in puts]


def test_a_value_from_standard_input(fake: Fake, sealer: Person) -> None:
    """Sealed to the guest's key; never printed, never in a request in clear."""
    said = sealer.ok("secrets", "set", "acme", "TOKEN", typed=MARKER + "\n")
    assert "TOKEN is saved as version 1" in said
    assert sent(fake) == [MARKER.encode()]
    sealer.ok("secrets", "set", "acme", "TOKEN", typed="two\nlines\n\n")
    assert sent(fake)[1] == b"two\nlines"
    everything = "".join(sealer.said) + repr(fake.asked)
    assert MARKER not in everything
    assert base64.b64encode(MARKER.encode()).decode()[:20] not in everything


def test_a_value_that_is_typed(fake: Fake, sealer: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without showing it."""

    class Terminal:
        def isatty(self) -> bool:
            return True

    real = sealer.run

    def run(*words: str) -> Any:
        monkeypatch.setattr(sys, "stdin", Terminal())
        monkeypatch.setattr(getpass, "getpass", lambda prompt: MARKER)
        from client.cli import main

        return main([*words, "--portal", sealer.portal, "--config", str(sealer.folder)])

    assert run("secrets", "set", "acme", "TOKEN") == 0
    assert sent(fake) == [MARKER.encode()]
    assert real("secrets", "list", "acme").status == 0


def test_no_value_on_the_command_line(sealer: Person) -> None:
    """Others could read it there."""
    assert sealer.run("secrets", "set", "acme", "TOKEN", MARKER).status == 2
    sealer.said.clear()


@pytest.mark.parametrize("name", ["lower", "A-B", "", "A" * 65, "../x"])
def test_a_bad_name_is_never_sent(fake: Fake, sealer: Person, name: str) -> None:
    before = len(fake.asked)
    assert sealer.run("secrets", "set", "acme", name, typed="x").status == 2
    assert len(fake.asked) == before


@pytest.mark.parametrize(
    ("typed", "told"), [("", "no value"), ("\n\n", "no value"), ("x" * 40_000, "too long")]
)
def test_a_value_of_no_use(fake: Fake, sealer: Person, typed: str, told: str) -> None:
    before = len(fake.asked)
    assert told in sealer.refused("secrets", "set", "acme", "TOKEN", typed=typed)
    assert len(fake.asked) == before


def test_the_longest_value(fake: Fake, sealer: Person) -> None:
    sealer.ok("secrets", "set", "acme", "TOKEN", typed="x" * MAX_SECRET_BYTES + "\n")
    assert len(sent(fake)[0]) == MAX_SECRET_BYTES


def test_a_portal_that_hands_out_its_own_key(fake: Fake, sealer: Person) -> None:
    """The guest states another one: nothing is sealed, nothing is sent, nothing is remembered."""
    fake.bend("GET", f"{SECRETS}/public-key/", key=base64.b64encode(OTHER).decode(), key_id=key_id(OTHER))
    told = sealer.refused("secrets", "set", "acme", "TOKEN", typed=MARKER)
    assert key_id(OTHER) in told
    assert key_id(PUBLIC) in told
    assert fake.secrets == {}
    assert not (sealer.folder / FILE).exists()


def test_a_key_that_changes_is_asked_about(fake: Fake, sealer: Person) -> None:
    """Guest and portal agree on a new key: this device remembers the old one, until it is told."""
    sealer.ok("secrets", "set", "acme", "TOKEN", typed="one")
    fake.sealing = OTHER.hex()
    told = sealer.refused("secrets", "set", "acme", "TOKEN", typed="two")
    assert f"--accept {key_id(OTHER)}" in told
    assert "--accept" in sealer.refused(
        "secrets", "set", "acme", "TOKEN", "--accept", key_id(PUBLIC), typed="two"
    )
    sealer.ok("secrets", "set", "acme", "TOKEN", "--accept", key_id(OTHER), typed="two")
    sealer.ok("secrets", "set", "acme", "TOKEN", typed="three")
    kept = json.loads((sealer.folder / FILE).read_text())
    assert kept == {sealer.portal: {"acme": OTHER.hex()}}


@pytest.mark.parametrize(
    "lie",
    [{"key": "!"}, {"key": base64.b64encode(b"short").decode()}, {"key_id": "0" * 16}, {"key": None}],
)
def test_a_key_that_is_none(fake: Fake, sealer: Person, lie: Any) -> None:
    fake.bend("GET", f"{SECRETS}/public-key/", **lie)
    sealer.refused("secrets", "set", "acme", "TOKEN", typed="x")
    assert fake.secrets == {}


@pytest.mark.parametrize("stated", ["", "x", "AB" * 32, "ab" * 31])
def test_a_guest_that_states_none(stated: str) -> None:
    with pytest.raises(Failure, match="can be understood"):
        judge(stated, PUBLIC, None, None)


@pytest.mark.parametrize("lie", [{"name": "OTHER"}, {"key_id": "0" * 16}, {"version": "1"}])
def test_a_portal_that_keeps_something_else(fake: Fake, sealer: Person, lie: Any) -> None:
    fake.bend("PUT", f"{SECRETS}/TOKEN/", **lie)
    sealer.refused("secrets", "set", "acme", "TOKEN", typed="x")


def test_a_refusal_is_told(fake: Fake, sealer: Person) -> None:
    refusal = Answer(409, {"code": "too_many", "detail": "There are 64 names. Use one of them again."})
    fake.breaks("PUT", f"{SECRETS}/TOKEN/", refusal)
    assert "64 names" in sealer.refused("secrets", "set", "acme", "TOKEN", typed="x")


def test_listing(fake: Fake, sealer: Person) -> None:
    """Names, versions and states; nothing that a terminal would obey."""
    sealer.ok("secrets", "set", "acme", "TOKEN", typed="x")
    fake.secrets["TOKEN"]["advice"] = "\x1b]0;evil\x07"
    out = sealer.ok("secrets", "list", "acme")
    assert out.splitlines()[1].split()[:4] == ["TOKEN", "1", "waiting", "owner"]
    assert "\x1b" not in out


def test_revoking(fake: Fake, sealer: Person) -> None:
    """After a yes."""
    sealer.ok("secrets", "set", "acme", "TOKEN", typed="x")
    assert "Nothing was changed" in sealer.refused("secrets", "revoke", "acme", "TOKEN", typed="n\n")
    assert fake.secrets["TOKEN"]["state"] == "waiting"
    assert "has to confirm" in sealer.ok("secrets", "revoke", "acme", "TOKEN", "--yes")
    fake.bend("DELETE", f"{SECRETS}/TOKEN/", state="revoked")
    assert sealer.ok("secrets", "revoke", "acme", "TOKEN", typed="y\n").endswith("is revoked.\n")
    fake.bend("DELETE", f"{SECRETS}/TOKEN/", state="waiting")
    sealer.refused("secrets", "revoke", "acme", "TOKEN", "--yes")
    sealer.refused("secrets", "revoke", "acme", "NEVER_WAS", "--yes")


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"b": 1}}', '{"a": {"b": "xyz"}}'])
def test_a_damaged_memory_is_told(sealer: Person, content: str) -> None:
    (sealer.folder / FILE).write_text(content)
    (sealer.folder / FILE).chmod(0o600)
    assert "damaged" in sealer.refused("secrets", "set", "acme", "TOKEN", typed="x")
