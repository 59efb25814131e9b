"""What the guest itself is asked, and that it is compared with the portal and with memory."""

import json
import re

import pytest

from protocol.sessions import PROOF_HEADER, SESSION_HEADER
from tests.client.conftest import Person
from tests.client.fake import Answer, Fake
from tests.protocol.people import MEMBER, OWNER, STRANGER, entry, keyring


def test_listing_the_workspace(fake: Fake, owner: Person) -> None:
    fake.entries.append({"name": "\x1b]0;evil\x07 ", "kind": "folder", "size": 4096})
    out = owner.ok("workspace", "ls", "acme")
    assert out.splitlines()[0].split() == ["file", "12", "notes.txt"]
    assert "\x1b" not in out
    assert json.loads(owner.ok("workspace", "ls", "acme", "--json"))["entries"] == fake.entries


def test_a_longer_listing_says_so(fake: Fake, owner: Person) -> None:
    fake.bend("GET", "/v1/workspace", complete=False)
    assert "more files" in owner.run("workspace", "ls", "acme").err


def test_each_request_is_proved_and_the_session_is_ended(fake: Fake, owner: Person) -> None:
    """The guest's own rooms check the proofs; no cookie of the portal reaches the guest."""
    owner.ok("workspace", "ls", "acme")
    there = [asked for asked in fake.asked if asked.host.startswith("acme.")]
    proofs = [
        asked.headers[PROOF_HEADER.lower()] for asked in there if SESSION_HEADER.lower() in asked.headers
    ]
    assert [proof.partition(".")[0] for proof in proofs] == ["1", "2"]
    assert [asked.path for asked in there][-2:] == ["/v1/workspace", "/v1/session"]
    assert fake.sessions._sessions == {}
    assert {name for asked in there for name in asked.cookies} == {"__Host-route"}
    assert all(asked.headers["origin"] == fake.origin for asked in there if asked.method != "GET")


def test_whoami(fake: Fake, owner: Person) -> None:
    out = owner.ok("whoami", "acme")
    assert owner.device.key.fingerprint in out
    assert re.search(r"role +owner\n", out)
    assert "120 min" in out


def test_sessions(owner: Person) -> None:
    out = owner.ok("sessions", "acme")
    assert "this one" in out
    assert owner.device.key.fingerprint in out
    assert owner.ok("sessions", "end", "acme") == "Ended 2 other sessions.\n"


def test_only_owners_end_sessions(fake: Fake, newcomer: Person) -> None:
    fake.know(newcomer.device.key)
    fake.show(keyring(fake.tenant_id, entry(OWNER.key), entry(newcomer.device.key, "member")), OWNER)
    assert "an owner is needed" in newcomer.refused("sessions", "end", "acme")


def test_a_key_that_the_guest_does_not_know(fake: Fake, newcomer: Person) -> None:
    fake.know(newcomer.device.key)
    fake.show(keyring(fake.tenant_id), OWNER)
    assert "add it to the keyring" in newcomer.refused("workspace", "ls", "acme")


def test_a_closed_guest(fake: Fake, owner: Person) -> None:
    fake.breaks("GET", "/v1/workspace", Answer(403, {"error": "suspended", "message": "no"}))
    assert "Access to this runtime is closed" in owner.refused("workspace", "ls", "acme")


def test_fingerprints_agree(fake: Fake, owner: Person) -> None:
    assert fake.current is not None
    out = owner.ok("fingerprints", "acme")
    assert fake.current.hash in out
    assert fake.sealing in out
    assert owner.device.key.fingerprint in out
    assert "agree" in out


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("hash", "0" * 64, "Version or hash"),
        ("version", 5, "portal 1, guest 5"),
        ("recovery", "1" * 64, "another recovery key"),
        ("members", [{"fingerprint": "2" * 64}], f"Only in the guest: {'2' * 64}"),
        ("members", [], "Only in the portal's keyring"),
    ],
)
def test_a_guest_that_states_something_else(
    fake: Fake, owner: Person, member: str, value: object, words: str
) -> None:
    """Whatever differs is named, and the command fails."""
    assert fake.current is not None
    stated = {
        "version": 1,
        "hash": fake.current.hash,
        "members": [{"fingerprint": owner.device.key.fingerprint}],
        "recovery": fake.current.recovery.fingerprint,
    }
    fake.bend("GET", "/v1/members", keyring={**stated, member: value})
    told = owner.refused("fingerprints", "acme")
    assert words in told
    assert "WARNING: they do not agree" in told


def test_another_sealing_key(fake: Fake, owner: Person) -> None:
    """Secrets would be sealed to whoever holds it."""
    fake.bend("GET", "/v1/members", sealing_public_key="77" * 32)
    assert "another sealing key" in owner.refused("fingerprints", "acme")


def test_a_guest_without_a_keyring(fake: Fake, owner: Person) -> None:
    fake.bend("GET", "/v1/members", keyring=None)
    assert "portal 1, guest none" in owner.refused("fingerprints", "acme")


def test_a_guest_behind_what_this_device_has_seen(fake: Fake, owner: Person) -> None:
    """Portal and guest agree with each other, and both go back."""
    assert fake.current is not None
    first, signature = fake.current, fake.signature
    fake.deliver = False
    fake.know(MEMBER.key)
    owner.ok("keyring", "add", "acme", MEMBER.key.fingerprint, "--yes")
    fake.current, fake.signature = first, signature
    told = owner.refused("fingerprints", "acme")
    assert "ROLLED BACK" in told
    assert "The guest is at version 1; this device has seen 2" in told


def test_a_guest_that_has_forked(fake: Fake, owner: Person) -> None:
    assert fake.current is not None
    document = {**fake.current.document, "members": [entry(owner.device.key), entry(STRANGER.key)]}
    fake.show(document, owner.device, guest=False)
    fake.bend(
        "GET",
        "/v1/members",
        keyring={
            "version": 1,
            "hash": fake.current.hash,
            "members": [{"fingerprint": f} for f in fake.current.members],
            "recovery": fake.current.recovery.fingerprint,
        },
    )
    told = owner.refused("fingerprints", "acme")
    assert "FORKED" in told
    assert "The guest has another version 1" in told


def test_consent(fake: Fake, owner: Person) -> None:
    """Shown before it is signed; versions rise; always-on falls with agents."""
    assert "not decided" in owner.ok("consent", "acme")
    owner.refused("consent", "acme", "--agents", "on", typed="n\n")
    assert fake.members.consents.version == 0
    out = owner.ok("consent", "acme", "--agents", "on", "--always-on", "on", typed="y\n")
    assert "agents     not decided → on" in out
    assert (fake.members.consents.agents, fake.members.consents.always_on) == (True, True)
    out = owner.ok("consent", "acme", "--agents", "off", "--yes")
    assert "always-on  on → off" in out
    consents = fake.members.consents
    assert (consents.version, consents.agents, consents.always_on) == (2, False, False)
    assert "Always-on needs agents" in owner.refused("consent", "acme", "--always-on", "on", "--yes")
    assert "agents     off" in owner.ok("consent", "acme")


def test_a_consent_that_no_owner_signed_is_not_carried_on(fake: Fake, owner: Person) -> None:
    """The portal says that agents are on already, so that a signature for always-on would turn them on."""
    document = {"version": 4, "tenant_id": fake.tenant_id, "agents": True, "always_on": False}
    fake.consents = {"version": 4, "document": document, "signature": STRANGER.sign("consent v1", document)}  # type: ignore[arg-type]
    told = owner.refused("consent", "acme", "--always-on", "on", "--yes")
    assert "signed by no owner" in told
    assert "Always-on needs agents" in told
    assert fake.members.consents.version == 0
    by_owner = {**fake.consents["signature"], "by": owner.device.key.fingerprint}
    fake.consents["signature"] = by_owner
    assert "signed by no owner" in owner.refused("consent", "acme", "--always-on", "on", "--yes")


def test_a_member_cannot_consent(fake: Fake, newcomer: Person) -> None:
    fake.know(newcomer.device.key)
    fake.show(keyring(fake.tenant_id, entry(OWNER.key), entry(newcomer.device.key, "member")), OWNER)
    assert "Only an owner" in newcomer.refused("consent", "acme", "--agents", "on", "--yes")
