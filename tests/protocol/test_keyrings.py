"""Keyrings: the first is pinned; later ones follow only by an owner's hand, forward, without forks."""

from typing import Any

import pytest

from protocol.keyrings import Keyring, KeyringError, accept
from protocol.persons import Purpose, Site
from tests.protocol.people import MEMBER, ORIGIN, OWNER, RECOVERY, RP_ID, STRANGER, Passkey, entry, keyring

T = "tenant-a"
SITE = Site(RP_ID, {ORIGIN})


def signed(document: Any, by: Any = OWNER) -> dict[str, str]:
    made: dict[str, str] = by.sign(Purpose.KEYRING, document)
    return made


def first() -> Keyring:
    document = keyring(T)
    return accept(None, document, signed(document), T, SITE)


def second(before: Keyring, *members: dict[str, Any], **changed: Any) -> Any:
    both = members or (entry(OWNER.key), entry(MEMBER.key, "member"))
    return {**keyring(T, *both, version=2, previous=before.hash), **changed}


def refused(current: Keyring | None, document: Any, signature: dict[str, str]) -> str:
    with pytest.raises(KeyringError) as refusal:
        accept(current, document, signature, T, SITE)
    return refusal.value.code


def test_a_chain() -> None:
    """An owner adds a member; the member is then known, and the same keyring again changes nothing."""
    one = first()
    document = second(one)
    two = accept(one, document, signed(document), T, SITE)
    assert two.members[MEMBER.key.fingerprint].role == "member"
    assert accept(two, document, signed(document, STRANGER), T, SITE) is two


def test_an_owner_with_a_passkey() -> None:
    """A passkey signs keyrings as well as a device key does."""
    passkey = Passkey()
    document = keyring(T, entry(passkey.key))
    assert accept(None, document, signed(document, passkey), T, SITE).version == 1


def test_nobody_but_an_owner() -> None:
    """Not a stranger, not a member, not somebody whom only the new keyring names."""
    one = first()
    assert refused(None, keyring(T), signed(keyring(T), STRANGER)) == "not_an_owner"
    assert refused(None, keyring(T), signed(keyring(T), RECOVERY)) == "not_an_owner"
    takeover = second(one, entry(STRANGER.key))
    assert refused(one, takeover, signed(takeover, STRANGER)) == "not_an_owner"
    document = second(one)
    two = accept(one, document, signed(document), T, SITE)
    third = keyring(T, entry(MEMBER.key), version=3, previous=two.hash)
    assert refused(two, third, signed(third, MEMBER)) == "not_an_owner"
    assert refused(two, third, {**signed(third, MEMBER), "by": OWNER.key.fingerprint}) == "bad_signature"


def test_the_recovery_key() -> None:
    """Lost keys: the recovery key may sign the next keyring."""
    one = first()
    document = second(one, entry(STRANGER.key))
    assert accept(one, document, signed(document, RECOVERY), T, SITE).version == 2


def test_order() -> None:
    """Back, aside, ahead, or another tenant's: refused although an owner signed it."""
    one = first()
    document = second(one)
    two = accept(one, document, signed(document), T, SITE)
    assert refused(two, keyring(T), signed(keyring(T))) == "rolled_back"
    fork = second(one, entry(OWNER.key, name="Another"))
    assert refused(two, fork, signed(fork)) == "forked"
    astray = second(one, previous="00" * 32)
    assert refused(one, astray, signed(astray)) == "forked"
    ahead = keyring(T, version=4, previous=two.hash)
    assert refused(two, ahead, signed(ahead)) == "version_skipped"
    assert refused(None, document, signed(document)) == "version_skipped"
    foreign = keyring("tenant-b")
    assert refused(None, foreign, signed(foreign)) == "wrong_tenant"


def test_a_signature_for_something_else() -> None:
    """An owner's signature over the same document for another purpose is worth nothing."""
    document = keyring(T)
    assert refused(None, document, OWNER.sign(Purpose.CONSENT, document)) == "bad_signature"


MALFORMED: list[Any] = [
    None,
    [],
    {},
    {**keyring(T), "more": 1},
    {**keyring(T), "version": 0},
    {**keyring(T), "version": True},
    {**keyring(T), "version": 1.0},
    {**keyring(T), "members": []},
    {**keyring(T), "members": [entry(OWNER.key)] * 2},
    {**keyring(T), "members": [entry(OWNER.key, "member")]},
    {**keyring(T), "members": [entry(OWNER.key, "king")]},
    {**keyring(T), "members": [{**entry(OWNER.key), "kind": "rsa"}]},
    {**keyring(T), "members": [{**entry(OWNER.key), "kind": []}]},
    {**keyring(T), "members": [{**entry(OWNER.key), "public_key": "AB" * 32}]},
    {**keyring(T), "members": [{**entry(OWNER.key), "public_key": "ab"}]},
    {**keyring(T), "members": [entry(OWNER.key), entry(RECOVERY.key)]},
    {**keyring(T), "recovery": None},
    {**keyring(T), "previous": 7},
]


@pytest.mark.parametrize("document", MALFORMED)
def test_malformed(document: Any) -> None:
    """Refused before any signature is looked at, and with no other error."""
    assert refused(None, document, {"by": OWNER.key.fingerprint}) == "malformed"
