"""What owners sign is kept: every rule of a keyring and a consent, every refusal, and nothing ever changed."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, transaction

from audit.context import Actor
from audit.models import Entry
from protocol.keyrings import Keyring
from protocol.persons import Purpose
from tenants.models import ConsentVersion, KeyringVersion, Membership
from tenants.services import MembersRefused, consent_accept, keyring_accept, membership_add, membership_remove
from tenants.signals import members_changed
from tests.protocol.people import MEMBER, ORIGIN, OWNER, RECOVERY, STRANGER, Passkey, entry
from tests.tenants.conftest import TESTER, House

pytestmark = pytest.mark.django_db


def refused(code: str) -> Any:
    return pytest.raises(MembersRefused, check=lambda error: error.code == code)


def data(action: str) -> Any:
    return json.loads(Entry.objects.filter(action=action).latest("pk").event)["data"]


def test_the_first_keyring(house: House) -> None:
    """Kept with its hash, on record with every fingerprint, and told to the rooms above."""
    told: list[Any] = []

    def listen(tenant_id: Any, **given: Any) -> None:
        told.append(tenant_id)

    members_changed.connect(listen)
    try:
        kept = house.found()
    finally:
        members_changed.disconnect(listen)
    assert kept.hash == Keyring.parse(house.first()).hash
    assert data("keyring.accepted") == {
        "version": 1,
        "hash": kept.hash,
        "fingerprints": [OWNER.key.fingerprint],
        "recovery": RECOVERY.key.fingerprint,
        "signed_by": OWNER.key.fingerprint,
    }
    assert told == [house.tenant.pk]
    assert kept.created_by == house.people["owner"]


def test_the_same_again_changes_nothing(house: House) -> None:
    """A second click leaves no second entry."""
    first = house.found()
    assert house.accept(house.first()).pk == first.pk
    assert Entry.objects.filter(action="keyring.accepted").count() == 1


@pytest.mark.parametrize("who", ["member", "stranger"])
def test_only_owners_bring_it(house: House, who: str) -> None:
    """Whoever signed it."""
    house.register()
    with refused("not_allowed"):
        house.accept(house.first(), who=who)
    for actor in (TESTER,):
        with refused("not_allowed"):
            keyring_accept(actor=actor, tenant=house.tenant, document=house.first(), signature={})


def test_operators_do_not_bring_it(house: House, operator: User) -> None:
    """Staff cannot put anybody into a keyring."""
    house.register()
    document = house.first()
    with refused("not_allowed"):
        keyring_accept(
            actor=Actor.of(operator),
            tenant=house.tenant,
            document=document,
            signature=OWNER.sign(Purpose.KEYRING, document),
        )


def test_whom_the_first_may_name(house: House) -> None:
    """Registered keys of present members, in the role that they have here."""
    with refused("not_registered"):
        house.accept(house.first())
    house.register()
    house.register("member")
    for code, members in (
        ("wrong_role", [entry(OWNER.key), entry(MEMBER.key, "owner")]),
        ("wrong_role", [entry(MEMBER.key, "owner"), entry(OWNER.key, "member")]),
        ("not_registered", [entry(OWNER.key), entry(STRANGER.key, "member")]),
        ("bad_name", [entry(OWNER.key, name="a\u0000b")]),
        ("bad_name", [entry(OWNER.key, name="")]),
    ):
        document = house.first(members=members)
        by = OWNER if members[0]["public_key"] == OWNER.key.public_key.hex() else MEMBER
        with refused(code):
            house.accept(document, by)
    membership_remove(
        actor=TESTER, membership=Membership.objects.get(tenant=house.tenant, user=house.people["member"])
    )
    with refused("not_registered"):
        house.accept(house.first(members=[entry(OWNER.key), entry(MEMBER.key, "member")]))
    assert not KeyringVersion.objects.exists()


def test_a_later_version_looks_at_who_joins_only(house: House) -> None:
    """A member who has left stays until an owner signs them out, and hinders no other change."""
    first = house.found()
    house.register("member")
    both = [entry(OWNER.key), entry(MEMBER.key, "member")]
    second = house.accept(house.next(first, *both))
    place = Membership.objects.get(tenant=house.tenant, user=house.people["member"])
    membership_remove(actor=TESTER, membership=place)
    laptop = Passkey()
    house.register(kind="passkey", public_key=laptop.key.public_key, credential_id="aWQ")
    third = house.accept(house.next(second, *both, entry(laptop.key)))
    with refused("not_registered"):
        house.accept(house.next(third, entry(OWNER.key), entry(MEMBER.key, "owner"), entry(laptop.key)))
    assert house.accept(house.next(third, entry(OWNER.key), entry(laptop.key))).version == 4


def test_the_recovery_key_signs_a_later_one(house: House) -> None:
    """For an owner who has lost every key: brought by an owner, naming a key registered anew."""
    first = house.found()
    laptop = Passkey()
    house.register(kind="passkey", public_key=laptop.key.public_key, credential_id="aWQ")
    assert house.accept(house.next(first, entry(laptop.key)), RECOVERY).version == 2


def test_a_passkey_signs_on_the_portal_or_the_runtime(house: House, settings: Any) -> None:
    """And nowhere else."""
    laptop = Passkey()
    house.register(kind="passkey", public_key=laptop.key.public_key, credential_id="aWQ")
    document = house.first(members=[entry(laptop.key)])
    for origin, taken in (
        ("http://evil.portal.localhost:8000", False),
        ("http://portal.localhost:9000", False),
        (settings.BASE_URL, True),
    ):
        signature = laptop.sign(Purpose.KEYRING, document, origin=origin)
        given: Any = {"actor": house.actor(), "tenant": house.tenant, "document": document}
        if taken:
            kept = keyring_accept(**given, signature={**signature, "extra": "dropped"})
            assert kept.signature == signature
        else:
            with refused("bad_signature"):
                keyring_accept(**given, signature=signature)
    second = house.next(KeyringVersion.objects.get(), entry(laptop.key, name="Renamed"))
    signature = laptop.sign(Purpose.KEYRING, second, origin=ORIGIN)
    assert keyring_accept(**{**given, "document": second}, signature=signature).version == 2


def test_every_refusal_of_the_protocol_has_its_code(house: House) -> None:
    """And a sentence; nothing is kept."""
    first = house.found()
    other = "00000000-0000-4000-8000-000000000000"
    good = house.next(first, entry(OWNER.key, name="Other"))
    for code, document, by, changes in (
        ("malformed", {}, OWNER, {}),
        ("malformed", house.next(first, entry(OWNER.key, "member")), OWNER, {}),
        ("wrong_tenant", {**good, "tenant_id": other}, OWNER, {}),
        ("forked", {**good, "previous": "0" * 64}, OWNER, {}),
        ("forked", {**house.first(), "members": [entry(OWNER.key, name="Other")]}, OWNER, {}),
        ("version_skipped", {**good, "version": 3}, OWNER, {}),
        ("not_an_owner", good, STRANGER, {}),
        ("not_an_owner", good, OWNER, {"by": ["x"]}),
        ("bad_signature", good, OWNER, {"signature": "AAAA"}),
        ("bad_signature", good, OWNER, {"kind": {}}),
    ):
        with refused(code) as caught:
            house.accept(document, by, **changes)
        assert str(caught.value).endswith(".")
    house.accept(good)
    with refused("rolled_back"):
        house.accept(house.first())
    assert KeyringVersion.objects.count() == 2


def test_consents(house: House) -> None:
    """Agents first, then always on, then nothing; each a version, on record, tied to the keyring in force."""
    with refused("no_keyring"):
        house.agree()
    first = house.found()
    kept = house.agree()
    assert (kept.version, kept.keyring) == (1, first)
    assert data("consent.accepted") == {
        "version": 1,
        "agents": True,
        "always_on": False,
        "signed_by": OWNER.key.fingerprint,
    }
    assert house.agree().pk == kept.pk
    house.agree(version=2, always_on=True)
    house.agree(version=3, agents=False)
    assert ConsentVersion.objects.count() == 3
    assert Entry.objects.filter(action="consent.accepted").count() == 3


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("malformed", {"agents": 1}),
        ("malformed", {"agents": False, "always_on": True}),
        ("malformed", {"always_on": None}),
        ("malformed", {"version": True}),
        ("malformed", {"version": 0}),
        ("malformed", {"version": "1"}),
        ("malformed", {"more": 1}),
        ("wrong_tenant", {"tenant_id": "00000000-0000-4000-8000-000000000000"}),
        ("version_skipped", {"version": 3}),
        ("version_skipped", {"version": 2**60}),
        ("rolled_back", {"always_on": True}),
    ],
)
def test_consents_that_are_refused(house: House, code: str, changes: dict[str, Any]) -> None:
    """Each with its code; the one in force stays."""
    house.found()
    kept = house.agree()
    if code in {"malformed", "wrong_tenant"}:
        changes = {"version": 2, **changes}
    document = {**kept.document, **changes}
    try:
        signature = OWNER.sign(Purpose.CONSENT, document)
    except ValueError:
        signature = {}
    with refused(code):
        consent_accept(actor=house.actor(), tenant=house.tenant, document=document, signature=signature)
    assert ConsentVersion.objects.get() == kept


def test_who_agrees(house: House) -> None:
    """An owner of the keyring signs, and an owner of the tenant brings it; not a member, not the recovery key."""
    first = house.found()
    house.register("member")
    house.accept(house.next(first, entry(OWNER.key), entry(MEMBER.key, "member")))
    for by in (MEMBER, RECOVERY, STRANGER):
        with refused("not_an_owner"):
            house.agree(by)
    for who in ("member", "stranger"):
        with refused("not_allowed"):
            house.agree(who=who)
    document = {"version": 1, "tenant_id": str(house.tenant.pk), "agents": True, "always_on": False}
    for signature in (OWNER.sign(Purpose.KEYRING, document), {"by": OWNER.key.fingerprint}):
        with refused("bad_signature"):
            consent_accept(actor=house.actor(), tenant=house.tenant, document=document, signature=signature)


def test_a_membership_that_rose_still_needs_a_signature(house: House) -> None:
    """The portal's word makes nobody an owner in the machine."""
    first = house.found()
    house.register("member")
    both = house.accept(house.next(first, entry(OWNER.key), entry(MEMBER.key, "member")))
    membership_add(actor=TESTER, tenant=house.tenant, user=house.people["member"], role="owner")
    raised = house.next(both, entry(OWNER.key), entry(MEMBER.key, "owner"))
    with refused("not_an_owner"):
        house.accept(raised, MEMBER, "member")
    house.accept(raised, OWNER, "member")


def test_what_was_signed_is_never_changed(house: House) -> None:
    """The database itself refuses; only the name of the person who brought it may be lost with the account."""
    house.found()
    house.agree()
    changes: list[Callable[[Any], object]] = [
        lambda rows: rows.update(version=7),
        lambda rows: rows.update(document={}),
        lambda rows: rows.update(signature={}),
        lambda rows: rows._raw_delete("default"),
    ]
    for model in (KeyringVersion, ConsentVersion):
        for change in changes:
            with pytest.raises(DatabaseError), transaction.atomic():
                change(model._default_manager.all())
    house.people["owner"].delete()
    assert KeyringVersion.objects.get().created_by is None
