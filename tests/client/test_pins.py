"""What this device has seen binds what it will sign and believe."""

import json

import pytest

from protocol.keyrings import Keyring
from tests.client.conftest import Person
from tests.client.fake import Fake
from tests.protocol.people import MEMBER, OWNER, RECOVERY, STRANGER, Device, Passkey, entry, keyring


@pytest.fixture
def seen(fake: Fake, newcomer: Person) -> Keyring:
    """Version 2, by OWNER, with this device as a second owner; seen by this device."""
    fake.know(newcomer.device.key)
    own = entry(newcomer.device.key)
    first = fake.show(keyring(fake.tenant_id, entry(OWNER.key), own), OWNER)
    newcomer.ok("keyring", "show", "acme")
    second = following(first, entry(OWNER.key), own, entry(MEMBER.key, "member"))
    found = fake.show(second, OWNER)
    newcomer.ok("keyring", "show", "acme")
    assert newcomer.pins["acme"]["version"] == 2
    return found


def following(before: Keyring, *members: object, version: int | None = None) -> object:
    return keyring(
        before.tenant_id,
        *members,  # type: ignore[arg-type]
        version=version or before.version + 1,
        previous=before.hash,
    )


def distrusted(person: Person, fake: Fake, word: str) -> None:
    """No command that signs or judges goes on, and the pin stays."""
    pins = (person.folder / "pins.json").read_bytes()
    fake.know(STRANGER.key)
    for words in (
        ["keyring", "show", "acme"],
        ["keyring", "add", "acme", STRANGER.key.fingerprint, "--yes"],
        ["keyring", "remove", "acme", MEMBER.key.fingerprint, "--yes"],
        ["consent", "acme", "--agents", "on", "--yes"],
        ["fingerprints", "acme"],
    ):
        told = person.refused(*words)
        assert "WARNING" in told
        assert word in told
    assert not [
        asked for asked in fake.asked if asked.method == "POST" and "tenants/acme/keyring" in asked.path
    ]
    assert (person.folder / "pins.json").read_bytes() == pins


def test_the_first_is_taken_and_said_so(fake: Fake, newcomer: Person) -> None:
    fake.know(newcomer.device.key)
    made = fake.show(keyring(fake.tenant_id), OWNER)
    assert "for the first time: compare the hash" in newcomer.ok("keyring", "show", "acme")
    assert newcomer.pins["acme"]["hash"] == made.hash
    assert "has seen before" in newcomer.ok("keyring", "show", "acme")


def test_the_first_with_a_wrong_signature_is_not_taken(fake: Fake, newcomer: Person) -> None:
    fake.know(newcomer.device.key)
    fake.show(keyring(fake.tenant_id), OWNER)
    fake.signature = {**STRANGER.sign("keyring v1", {}), "by": OWNER.key.fingerprint}  # type: ignore[arg-type]
    assert "BAD SIGNATURE" in newcomer.refused("keyring", "show", "acme")
    assert not (newcomer.folder / "pins.json").exists()


@pytest.mark.parametrize(("signer", "words"), [(OWNER, "versions before"), (STRANGER, "says nothing here")])
def test_first_sight_of_a_later_version(fake: Fake, newcomer: Person, signer: Device, words: str) -> None:
    """Its signer may be gone since, or was the recovery key: then there is nothing to check."""
    fake.know(newcomer.device.key)
    fake.show(keyring(fake.tenant_id, version=7, previous="0" * 64), signer, guest=False)
    assert words in newcomer.ok("keyring", "show", "acme")


def test_first_sight_of_a_later_version_with_a_false_signature(fake: Fake, newcomer: Person) -> None:
    fake.know(newcomer.device.key)
    fake.show(keyring(fake.tenant_id, version=7, previous="0" * 64), STRANGER, guest=False)
    fake.signature["by"] = OWNER.key.fingerprint
    assert "BAD SIGNATURE" in newcomer.refused("keyring", "show", "acme")


def test_the_next_is_followed(fake: Fake, newcomer: Person, seen: Keyring) -> None:
    passkey = Passkey()
    members = [entry(OWNER.key), entry(newcomer.device.key), entry(passkey.key)]
    third = fake.show(following(seen, *members), OWNER)
    assert "follows version 2" in newcomer.ok("keyring", "show", "acme")
    document = following(third, entry(passkey.key), entry(newcomer.device.key))
    fake.show(document, OWNER, guest=False)
    fake.signature = passkey.sign("keyring v1", document, origin=fake.origin)  # type: ignore[arg-type]
    fake.members.take_keyring(document, fake.signature)
    assert "follows version 3" in newcomer.ok("keyring", "show", "acme")


def test_a_passkey_of_another_site_signs_nothing(fake: Fake, newcomer: Person, seen: Keyring) -> None:
    passkey = Passkey()
    third = fake.show(following(seen, entry(passkey.key), entry(newcomer.device.key)), OWNER)
    newcomer.ok("keyring", "show", "acme")
    document = following(third, entry(passkey.key))
    fake.show(document, OWNER, guest=False)
    elsewhere = "http://other.portal.localhost:1"
    fake.signature = passkey.sign("keyring v1", document, origin=elsewhere)  # type: ignore[arg-type]
    assert "another origin" in newcomer.refused("keyring", "show", "acme")


def test_a_fork(fake: Fake, newcomer: Person, seen: Keyring) -> None:
    """Another version 2, rightly signed by an owner."""
    document = {**seen.document, "members": [entry(OWNER.key), entry(newcomer.device.key)]}
    fake.show(document, OWNER, guest=False)
    distrusted(newcomer, fake, "FORKED")


def test_a_fork_one_version_on(fake: Fake, newcomer: Person, seen: Keyring) -> None:
    document = {**following(seen, entry(OWNER.key)), "previous": "0" * 64}  # type: ignore[dict-item]
    fake.show(document, OWNER, guest=False)
    distrusted(newcomer, fake, "FORKED")


def test_a_rollback(fake: Fake, newcomer: Person, seen: Keyring) -> None:
    fake.show(keyring(fake.tenant_id, entry(OWNER.key), entry(newcomer.device.key)), OWNER, guest=False)
    distrusted(newcomer, fake, "ROLLED BACK")


def test_a_rollback_to_nothing(fake: Fake, newcomer: Person, seen: Keyring) -> None:
    fake.current = None
    distrusted(newcomer, fake, "ROLLED BACK")


def test_a_keyring_by_a_stranger(fake: Fake, newcomer: Person, seen: Keyring) -> None:
    """The portal adds a key of its own and signs with it."""
    document = following(seen, entry(OWNER.key), entry(newcomer.device.key), entry(STRANGER.key))
    fake.show(document, STRANGER, guest=False)
    distrusted(newcomer, fake, "BAD SIGNATURE")


def test_a_keyring_by_a_stranger_with_a_gap(fake: Fake, newcomer: Person, seen: Keyring) -> None:
    """The same some versions on, where the chain cannot be followed."""
    document = following(seen, entry(newcomer.device.key), entry(STRANGER.key), version=9)
    fake.show(document, STRANGER, guest=False)
    distrusted(newcomer, fake, "NOT TO BE CHECKED")
    fake.signature["by"] = OWNER.key.fingerprint
    distrusted(newcomer, fake, "BAD SIGNATURE")


@pytest.mark.parametrize("signer", [OWNER, RECOVERY])
def test_a_gap_closed_by_a_known_key(fake: Fake, newcomer: Person, seen: Keyring, signer: Device) -> None:
    fake.show(following(seen, entry(newcomer.device.key), version=9), signer, guest=False)
    newcomer.refused("keyring", "show", "acme")  # the guest is still at version 2
    assert newcomer.pins["acme"]["version"] == 9


def test_another_tenant_under_the_name(fake: Fake, newcomer: Person, seen: Keyring) -> None:
    fake.tenant_id = "0b9a4d8e-4f53-4b0e-8f0c-8d1d5a0b7c02"
    fake.show(keyring(fake.tenant_id, entry(newcomer.device.key)), newcomer.device, guest=False)
    distrusted(newcomer, fake, "ANOTHER TENANT")


def test_the_person_may_accept_what_they_compared(fake: Fake, newcomer: Person, seen: Keyring) -> None:
    """By its whole hash, and no other."""
    document = following(seen, entry(newcomer.device.key), entry(STRANGER.key), version=9)
    new = fake.show(document, STRANGER, guest=False)
    assert "does not have that hash" in newcomer.refused("keyring", "show", "acme", "--accept", seen.hash)
    assert newcomer.pins["acme"]["version"] == 2
    newcomer.run("keyring", "show", "acme", "--accept", new.hash)
    assert newcomer.pins["acme"] == {"version": 9, "hash": new.hash, "document": document}


@pytest.mark.parametrize("change", [{"hash": "0" * 64}, {"version": 3}, {"document": {}}])
def test_damaged_pins_stop_everything(newcomer: Person, seen: Keyring, change: dict[str, object]) -> None:
    """They are not forgotten in silence: that would be trust on first use again."""
    path = newcomer.folder / "pins.json"
    everything = json.loads(path.read_text())
    everything[newcomer.portal]["acme"] |= change
    path.write_text(json.dumps(everything))
    assert "damaged" in newcomer.refused("keyring", "show", "acme")
    path.write_text("{")
    assert "damaged" in newcomer.refused("keyring", "show", "acme")


def test_pins_are_private_and_by_portal(newcomer: Person, seen: Keyring) -> None:
    path = newcomer.folder / "pins.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(json.loads(path.read_text())) == [newcomer.portal]
    path.chmod(0o644)
    assert "chmod 600" in newcomer.refused("keyring", "show", "acme")
