"""The owner's terms: only an owner's hand, only forward."""

from typing import Any

import pytest

from protocol.keyrings import Keyring
from protocol.persons import Purpose
from protocol.terms import Terms, TermsError, accept
from tests.protocol.people import MEMBER, OWNER, RECOVERY, STRANGER, Passkey, entry, keyring
from tests.protocol.ticketing import PORTAL_ORIGIN, PORTAL_SITE

T = "tenant-a"
RING = Keyring.parse(keyring(T, entry(OWNER.key), entry(MEMBER.key, "member")))


def document(version: int = 1, **changed: Any) -> dict[str, Any]:
    return {"version": version, "tenant_id": T, "ordinary": "owner", "emergency": "closed", **changed}


def taken(current: Terms | None, new: Any, by: Any = OWNER, ring: Keyring | None = RING) -> Terms:
    return accept(current, new, by.sign(Purpose.TERMS, new), ring, T, PORTAL_SITE)


def refused(code: str, *arguments: Any, **named: Any) -> None:
    with pytest.raises(TermsError) as caught:
        taken(*arguments, **named)
    assert caught.value.code == code


def test_an_owner_says_who_may_come_in() -> None:
    found = taken(None, document())
    assert [found.mode(kind) for kind in ("ordinary", "emergency", "else")] == ["owner", "closed", "closed"]
    assert taken(found, document(), STRANGER) is found
    assert taken(found, document(5, ordinary="approvers")).mode("ordinary") == "approvers"


def test_an_owner_with_a_passkey() -> None:
    passkey = Passkey()
    ring = Keyring.parse(keyring(T, entry(passkey.key)))
    signature = passkey.sign(Purpose.TERMS, document(), origin=PORTAL_ORIGIN)
    assert accept(None, document(), signature, ring, T, PORTAL_SITE).version == 1


def test_nobody_else() -> None:
    for somebody in (MEMBER, RECOVERY, STRANGER):
        refused("not_an_owner", None, document(), somebody)
    refused("not_an_owner", None, document(), ring=None)
    for purpose in set(Purpose) - {Purpose.TERMS}:
        with pytest.raises(TermsError, match="fit"):
            accept(None, document(), OWNER.sign(purpose, document()), RING, T, PORTAL_SITE)
    stolen = MEMBER.sign(Purpose.TERMS, document()) | {"by": OWNER.key.fingerprint}
    with pytest.raises(TermsError, match="fit"):
        accept(None, document(), stolen, RING, T, PORTAL_SITE)


def test_never_back_and_never_two_of_one_version() -> None:
    second = taken(None, document(2))
    refused("rolled_back", second, document(1))
    refused("forked", second, document(2, emergency="approvers"))
    refused("wrong_tenant", second, document(3, tenant_id="tenant-b"))


def test_versions_are_not_used_up() -> None:
    """An owner on the way out signs no version after which nobody can close the way."""
    refused("version_skipped", None, document(2**31 - 1))
    refused("version_skipped", None, document(1001))
    latest = taken(None, document(1000))
    refused("version_skipped", latest, document(2001))
    assert taken(latest, document(2000)).version == 2000


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {},
        document() | {"more": 1},
        document(0),
        document() | {"version": True},
        document() | {"version": "1"},
        document(tenant_id=7),
        document(ordinary="open"),
        document(ordinary=["owner"]),
        document(emergency=None),
    ],
)
def test_malformed(bad: Any) -> None:
    with pytest.raises(TermsError) as caught:
        Terms.parse(bad)
    assert caught.value.code == "malformed"
