"""Passkeys of staff: who registers and retires them, and what an assertion at the portal must show."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import transaction

from audit.context import Actor, command
from audit.models import Entry
from breakglass.models import Passkey
from breakglass.refusals import TicketRefused
from breakglass.services import passkeys
from breakglass.services.passkeys import assertion_take, clones_noted, passkey_retire
from protocol.persons import Purpose
from tenants.models import Membership, Tenant
from tenants.services import key_register, membership_add
from tests.breakglass.staff import Colleague, Staff, maker
from tests.conftest import TESTER

pytestmark = pytest.mark.django_db
DOCUMENT = {"what": "a document", "number": 1}


@pytest.fixture
def staff(make_user: Callable[..., User]) -> Staff:
    return maker(make_user)


def noted(action: str) -> list[Any]:
    return [json.loads(row.event)["data"] for row in Entry.objects.filter(action=action).order_by("pk")]


@clones_noted
@transaction.atomic
def take(colleague: Colleague, signature: Any, document: Any = DOCUMENT) -> Passkey:
    """What each service that takes a signature does."""
    taken = assertion_take(
        actor=colleague.actor, purpose=Purpose.APPROVAL, document=document, signature=signature
    )
    Passkey.objects.filter(pk=taken.pk).update(name="Done")  # whatever the signature is for
    return taken


def refused(code: str, deed: Callable[[], object]) -> None:
    with pytest.raises(TicketRefused) as refusal:
        deed()
    assert refusal.value.code == code


def test_registering(staff: Staff) -> None:
    """The row, and an entry that names key and holder by number."""
    anna = staff("anna")
    assert (anna.passkey.user, anna.passkey.counter, anna.passkey.name) == (anna.user, 0, "Laptop")
    assert noted("passkey.registered") == [
        {"fingerprint": anna.passkey.fingerprint, "user": str(anna.user.pk)}
    ]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"name": "  "}, "bad_name"),
        ({"name": "a\u202eb"}, "bad_name"),
        ({"public_key": bytes(91)}, "bad_key"),
        ({"public_key": b""}, "bad_key"),
    ],
)
def test_what_is_not_registered(make_user: Callable[..., User], given: Any, code: str) -> None:
    """Names that cannot be shown, and keys that guests cannot check."""
    refused(code, lambda: Colleague(make_user("anna", is_staff=True)).register(**given))
    assert not Passkey.objects.exists()


@pytest.mark.parametrize("more", [{}, {"is_staff": True, "is_active": False}])
def test_only_active_staff_register(make_user: Callable[..., User], more: Any) -> None:
    """No customer, nobody who has left, no command."""
    outsider = Colleague(make_user("anna", **more))
    refused("not_allowed", outsider.register)
    key = outsider.authenticator.key.public_key
    refused(
        "not_allowed",
        lambda: passkeys.passkey_register(
            actor=command("shell"), public_key=key, credential_id="x", name="x"
        ),
    )


def test_a_key_is_one_persons(staff: Staff, make_user: Callable[..., User], tenant: Tenant) -> None:
    """Not again under another account, not after it was retired, and not if a member registered it."""
    anna = staff("anna")
    alias = Colleague(make_user("alias", is_staff=True), anna.authenticator)
    refused("taken", alias.register)
    passkey_retire(actor=anna.actor, passkey=anna.passkey)
    refused("taken", alias.register)
    refused("taken", anna.register)
    member, ben = make_user("member"), Colleague(make_user("ben", is_staff=True))
    membership_add(actor=TESTER, tenant=tenant, user=member, role=Membership.Role.MEMBER)
    key_register(
        actor=Actor.of(member),
        tenant=tenant,
        kind="passkey",
        public_key=ben.authenticator.key.public_key,
        name="Phone",
        credential_id="x",
    )
    refused("taken", ben.register)


def test_not_too_many(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's passkeys are few; retired ones do not count."""
    monkeypatch.setattr(passkeys, "MAX_PASSKEYS", 1)
    anna = staff("anna")
    second = Colleague(anna.user)
    refused("too_many", second.register)
    passkey_retire(actor=anna.actor, passkey=anna.passkey)
    second.register()


def test_retiring(staff: Staff, make_user: Callable[..., User]) -> None:
    """One's own; another's with the permission. Once more leaves no second entry."""
    anna, ben = staff("anna"), staff("ben")
    refused("not_allowed", lambda: passkey_retire(actor=ben.actor, passkey=anna.passkey))
    assert anna.passkey.retired_at is None
    ben.user.user_permissions.add(Permission.objects.get(codename="retire_passkey"))
    for _ in range(2):
        passkey_retire(actor=Actor.of(User.objects.get(pk=ben.user.pk)), passkey=anna.passkey)
    assert anna.passkey.retired_at is not None
    assert noted("passkey.retired") == [{"fingerprint": anna.passkey.fingerprint, "user": str(anna.user.pk)}]
    refused("unknown_passkey", lambda: take(anna, anna.sign(Purpose.APPROVAL, DOCUMENT)))


@pytest.mark.parametrize(
    "lies",
    [
        {"origin": "http://acme.portal.localhost:8000"},
        {"origin": "http://evil.example"},
        {"crossOrigin": True},
        {"type": "webauthn.create"},
        {"rp_id": "acme.portal.localhost"},
        {"flags": 0x01},
        {"challenge": "AAAA"},
    ],
)
def test_what_is_no_assertion_for_the_portal(staff: Staff, lies: Any) -> None:
    """Another origin, even a tenant's; a frame; another relying party; no verified user; another challenge."""
    anna = staff("anna")
    refused("bad_signature", lambda: take(anna, anna.sign(Purpose.APPROVAL, DOCUMENT, **lies)))
    assert anna.passkey.name == "Laptop"


def test_for_this_document_and_purpose_only(staff: Staff) -> None:
    """A signature for something else is worth nothing."""
    anna = staff("anna")
    refused("bad_signature", lambda: take(anna, anna.sign(Purpose.APPROVAL, {**DOCUMENT, "number": 2})))
    refused("bad_signature", lambda: take(anna, anna.sign(Purpose.REJECTION, DOCUMENT)))
    assert take(anna, anna.sign(Purpose.APPROVAL, DOCUMENT)) == anna.passkey


def test_nobody_signs_for_another(staff: Staff) -> None:
    """A colleague's passkey is none of mine, whoever holds my session; nor is one that is not registered."""
    anna, ben = staff("anna"), staff("ben")
    refused("unknown_passkey", lambda: take(anna, ben.sign(Purpose.APPROVAL, DOCUMENT)))
    strange: list[Any] = [None, 7, [], "0" * 64]
    for by in strange:
        signature = {**anna.sign(Purpose.APPROVAL, DOCUMENT), "by": by}
        refused("unknown_passkey", partial(take, anna, signature))


def test_who_has_left_signs_nothing(staff: Staff) -> None:
    """As the database has them now, not as the session remembers them."""
    anna = staff("anna")
    actor = anna.actor
    assert actor.user is not None
    User.objects.filter(pk=anna.user.pk).update(is_staff=False)
    refused("not_allowed", lambda: take(anna, anna.sign(Purpose.APPROVAL, DOCUMENT)))


def test_the_counter_rises(staff: Staff) -> None:
    """From assertion to assertion, by any step."""
    anna = staff("anna", counter=5)
    for expected in (6, 7):
        take(anna, anna.sign(Purpose.APPROVAL, DOCUMENT))
        assert anna.passkey.counter == expected
    anna.counter = 40
    take(anna, anna.sign(Purpose.APPROVAL, DOCUMENT))
    assert anna.passkey.counter == 41


@pytest.mark.parametrize("stated", [0, 3, 6])
def test_a_cloned_counter(staff: Staff, stated: int) -> None:
    """Not higher than before: nothing is taken, it is on record once, and the passkey signs nothing more."""
    anna = staff("anna", counter=5)
    take(anna, anna.sign(Purpose.APPROVAL, DOCUMENT))
    Passkey.objects.filter(pk=anna.passkey.pk).update(name="Laptop")
    refused("cloned", lambda: take(anna, anna.sign(Purpose.APPROVAL, DOCUMENT, counter=stated)))
    refused("cloned", lambda: take(anna, anna.sign(Purpose.APPROVAL, DOCUMENT, counter=50)))
    assert (anna.passkey.counter, anna.passkey.name) == (6, "Laptop")
    assert anna.passkey.cloned_at is not None
    about = {"fingerprint": anna.passkey.fingerprint, "user": str(anna.user.pk)}
    assert noted("passkey.cloned") == [{**about, "counter": 6, "stated": stated}]


def test_a_replayed_assertion_of_a_counting_key(staff: Staff) -> None:
    """The very same bytes again are a clone's, too."""
    anna = staff("anna", counter=5)
    signature = anna.sign(Purpose.APPROVAL, DOCUMENT)
    take(anna, signature)
    refused("cloned", lambda: take(anna, signature))
