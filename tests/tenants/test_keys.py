"""Registering public keys and taking them away: who may, what is refused, and that each leaves an entry."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from audit.context import Actor
from audit.models import Entry
from protocol.keyrings import Keyring
from tenants.models import MemberKey, Membership, Tenant
from tenants.selectors import key_holder, keys_of
from tenants.services import MembersRefused, key_register, key_remove, membership_add, membership_remove
from tests.protocol.people import MEMBER, OWNER, RECOVERY, Passkey, entry
from tests.tenants.conftest import TESTER, House

pytestmark = pytest.mark.django_db


def refused(code: str) -> Any:
    return pytest.raises(MembersRefused, check=lambda error: error.code == code)


def info(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def compressed(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A second spelling of the same key, which would have a second fingerprint."""
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    return head + point


def test_a_device_key_and_a_passkey_are_registered(house: House) -> None:
    """With the fingerprint that the keyring will have, and an entry of both."""
    device, passkey = house.register(), Passkey()
    other = house.register(kind="passkey", public_key=passkey.key.public_key, credential_id="aWQ")
    assert (device.fingerprint, other.fingerprint) == (OWNER.key.fingerprint, passkey.key.fingerprint)
    entries = Entry.objects.filter(action="key.registered").order_by("pk")
    assert [row.target_id for row in entries] == [device.fingerprint, other.fingerprint]
    assert json.loads(entries[0].event)["data"] == {
        "fingerprint": device.fingerprint,
        "kind": "device",
        "user": str(house.people["owner"].pk),
    }


@pytest.mark.parametrize(
    ("kind", "public_key"),
    [
        ("device", b""),
        ("device", bytes(31)),
        ("device", bytes(32)),  # a point of order 4: anybody could sign for it
        ("device", b"\x01" + bytes(31)),  # the neutral element
        ("device", b"\xff" * 32),
        ("passkey", b"\x30\x00"),
        ("passkey", OWNER.key.public_key),
        ("passkey", info(ec.generate_private_key(ec.SECP384R1()))),
        ("passkey", info(rsa.generate_private_key(65537, 2048))),
        ("passkey", info(ec.generate_private_key(ec.SECP256R1())) + b"\0"),
        ("passkey", compressed(ec.generate_private_key(ec.SECP256R1()))),
    ],
    ids=lambda value: value if isinstance(value, str) else len(value),
)
def test_what_is_no_key_is_refused(house: House, kind: str, public_key: bytes) -> None:
    """Of the wrong size, curve or spelling."""
    with refused("bad_key"):
        house.register(kind=kind, public_key=public_key, credential_id="aWQ" if kind == "passkey" else "")
    assert not MemberKey.objects.exists()


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "a\nb", "a\u202eb", "a\x00"])
def test_a_name_must_be_printable(house: House, name: str) -> None:
    """It stands on pages, and an owner signs it."""
    with refused("bad_name"):
        house.register(name=name)


def test_only_members_register(house: House, operator: User) -> None:
    """Not strangers, not operators, not the machinery."""
    for actor in (house.actor("stranger"), Actor.of(operator), TESTER):
        with refused("not_allowed"):
            key_register(
                actor=actor, tenant=house.tenant, kind="device", public_key=OWNER.key.public_key, name="x"
            )


def test_a_key_is_one_persons(house: House, make_tenant: Any) -> None:
    """Twice by one person, or by another, in this tenant or the next: refused. The same person elsewhere: taken."""
    house.register()
    with refused("taken"):
        house.register()
    with refused("taken"):
        house.register("member", public_key=OWNER.key.public_key)
    second = make_tenant("second")
    for who in ("owner", "member"):
        membership_add(actor=TESTER, tenant=second, user=house.people[who], role="member")
    elsewhere = House(second, house.people)
    with refused("taken"):
        elsewhere.register("member", public_key=OWNER.key.public_key)
    assert elsewhere.register().tenant == second


def test_a_person_has_at_most_sixteen(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is told to remove one."""
    monkeypatch.setattr("tenants.services.keys.MAX_KEYS", 1)
    house.register()
    with refused("too_many"):
        house.register(public_key=RECOVERY.key.public_key)
    house.register("member")


def test_the_database_refuses_too(house: House) -> None:
    """One fingerprint a tenant; a credential id for passkeys alone."""
    key = house.register()
    values = {name: getattr(key, name) for name in ("tenant", "user", "public_key", "name")}
    for wrong in (
        {"kind": "device", "fingerprint": key.fingerprint},
        {"kind": "device", "fingerprint": "0" * 64, "credential_id": "aWQ"},
        {"kind": "passkey", "fingerprint": "0" * 64},
        {"kind": "other", "fingerprint": "0" * 64},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            MemberKey.objects.create(**values, **wrong)


def test_who_removes(house: House) -> None:
    """Its holder and owners; not other members, not strangers."""
    mine, theirs = house.register(), house.register("member")
    for who in ("member", "stranger"):
        with refused("not_allowed"):
            key_remove(actor=house.actor(who), tenant=house.tenant, fingerprint=mine.fingerprint)
    key_remove(actor=house.actor(), tenant=house.tenant, fingerprint=theirs.fingerprint)
    key_remove(actor=house.actor(), tenant=house.tenant, fingerprint=mine.fingerprint)
    assert not MemberKey.objects.exists()
    assert Entry.objects.filter(action="key.removed").count() == 2
    with pytest.raises(MemberKey.DoesNotExist):
        key_remove(actor=house.actor(), tenant=house.tenant, fingerprint=mine.fingerprint)


def test_a_key_in_the_keyring_stays(house: House) -> None:
    """Until an owner has signed it out."""
    first = house.found()
    house.register("member")
    second = house.accept(house.next(first, entry(OWNER.key), entry(MEMBER.key, "member")))
    with refused("in_keyring"):
        key_remove(actor=house.actor("member"), tenant=house.tenant, fingerprint=MEMBER.key.fingerprint)
    house.accept(house.next(second, entry(OWNER.key)))
    key_remove(actor=house.actor("member"), tenant=house.tenant, fingerprint=MEMBER.key.fingerprint)


def test_keys_of_those_who_left_are_not_listed(house: House) -> None:
    """Nor do they sign anybody in at the portal."""
    house.register("member")
    assert [key.role for key in keys_of(house.tenant)] == ["member"]  # type: ignore[attr-defined]
    assert key_holder(MEMBER.key.fingerprint) == house.people["member"]
    membership_remove(
        actor=TESTER, membership=Membership.objects.get(tenant=house.tenant, user=house.people["member"])
    )
    assert list(keys_of(house.tenant)) == []
    assert key_holder(MEMBER.key.fingerprint) is None


def test_an_ambiguous_or_inactive_holder_signs_nobody_in(house: House, make_tenant: Any) -> None:
    """Even if two people's rows should ever name one key."""
    key = house.register()
    other: Tenant = make_tenant("second")
    membership_add(actor=TESTER, tenant=other, user=house.people["member"], role="member")
    twin = MemberKey.objects.create(
        tenant=other,
        user=house.people["member"],
        kind="device",
        public_key=key.public_key,
        fingerprint=key.fingerprint,
        name="x",
    )
    assert key_holder(key.fingerprint) is None
    twin.delete()
    assert key_holder(key.fingerprint) == house.people["owner"]
    User.objects.filter(pk=house.people["owner"].pk).update(is_active=False)
    assert key_holder(key.fingerprint) is None


@pytest.mark.parametrize("deed", ["register", "remove", "keyring", "consent"])
def test_without_an_entry_nothing_happens(house: House, monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    """Rule 1, for each of the four writes."""
    first = house.found()
    house.register("member")
    deeds: dict[str, Callable[[], object]] = {
        "register": lambda: house.register(public_key=RECOVERY.key.public_key),
        "remove": lambda: key_remove(
            actor=house.actor(), tenant=house.tenant, fingerprint=MEMBER.key.fingerprint
        ),
        "keyring": lambda: house.accept(house.next(first, entry(OWNER.key), entry(MEMBER.key, "member"))),
        "consent": lambda: house.agree(),
    }

    def broken(**given: Any) -> None:
        raise RuntimeError("disk full")

    def state() -> list[Any]:
        return [
            list(MemberKey.objects.values_list()),
            house.tenant.keyringversions.count(),
            house.tenant.consentversions.count(),
        ]

    before = state()
    with monkeypatch.context() as patch:
        for module in ("keys", "keyrings"):
            patch.setattr(f"tenants.services.{module}.record", broken)
        with pytest.raises(RuntimeError):
            deeds[deed]()
    assert state() == before
    deeds[deed]()
    assert state() != before
    assert Keyring.parse(first.document).version == 1
