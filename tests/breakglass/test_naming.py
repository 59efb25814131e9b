"""An owner names the approvers and signs terms: only owners, only with a key of the keyring, for this tenant."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.dispatch import Signal

from audit.models import Entry
from breakglass.models import ApproverSetVersion, TenantApprovers, TermsVersion
from breakglass.refusals import TicketRefused
from breakglass.services.naming import approvers_name
from breakglass.services.terms import terms_accept, terms_draft
from breakglass.signals import approvers_changed, terms_changed
from protocol.persons import Purpose
from tenants.models import Membership, Tenant
from tenants.selectors import latest_keyring
from tenants.services import membership_add
from tests.breakglass.staff import Colleague, put_in_force
from tests.conftest import TESTER
from tests.protocol.people import MEMBER, OWNER, STRANGER, Device, Passkey, entry, naming
from tests.tenants.conftest import House

pytestmark = pytest.mark.django_db


@pytest.fixture
def house(tenant: Tenant, owner: User, make_user: Callable[..., User]) -> House:
    member = make_user("member")
    membership_add(actor=TESTER, tenant=tenant, user=member, role=Membership.Role.MEMBER)
    found = House(tenant, {"owner": owner, "member": member, "stranger": make_user("stranger")})
    found.found()
    return found


Heard = Callable[[Signal], list[Any]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Gives a list that fills with the tenants of whom a signal tells."""
    with ExitStack() as stack:

        def listen(signal: Signal) -> list[Any]:
            told: list[Any] = []

            def receiver(**given: Any) -> None:
                told.append(given.get("tenant_id"))

            signal.connect(receiver, weak=False)
            stack.callback(signal.disconnect, receiver)
            return told

        yield listen


def noted(action: str) -> list[Any]:
    return [json.loads(row.event)["data"] for row in Entry.objects.filter(action=action).order_by("pk")]


def refused(code: str, deed: Callable[[], object]) -> None:
    with pytest.raises(TicketRefused) as refusal:
        deed()
    assert refusal.value.code == code


def name(house: House, by: Device = OWNER, who: str = "owner", **given: Any) -> TenantApprovers:
    """Name the set in force, or what ``given`` says."""
    current = ApproverSetVersion.objects.first()
    named = {"version": current.version, "hash": current.hash} if current else {}
    signed = {"tenant_id": str(house.tenant.pk), **named} | given.pop("signed", {})
    version = given.pop("version", current.version if current else 1)
    return approvers_name(
        actor=house.actor(who),
        tenant=house.tenant,
        version=version,
        signature={
            **by.sign(given.pop("purpose", Purpose.NAMING), signed),
            **({"by": given["by_whom"]} if given else {}),
        },
    )


def agree(house: House, by: Device = OWNER, who: str = "owner", **changes: Any) -> TermsVersion:
    document = terms_draft(tenant=house.tenant, ordinary="owner", emergency="closed") | changes
    return terms_accept(
        actor=house.actor(who),
        tenant=house.tenant,
        document=document,
        signature=by.sign(Purpose.TERMS, document),
    )


def test_naming(house: House, first: ApproverSetVersion, heard: Heard) -> None:
    """Kept with the signature and the keyring that it was given under; the same again changes nothing."""
    told = heard(approvers_changed)
    kept = name(house)
    assert (kept.set, kept.keyring.version) == (first, 1)
    assert kept.signature == naming(OWNER, first.document, str(house.tenant.pk))
    assert name(house) == kept
    assert told == [house.tenant.pk]
    about = {"version": 1, "hash": first.hash, "keyring": 1, "signed_by": OWNER.key.fingerprint}
    assert noted("approvers.named") == [about]


def test_naming_anew(house: House, first: ApproverSetVersion, anna: Colleague) -> None:
    """Under another keyring, or for a later set, an owner may sign again: a new machine will need it."""
    name(house)
    keyring = latest_keyring(house.tenant)
    assert keyring is not None
    house.accept(house.next(keyring, entry(OWNER.key, name="Renamed")))
    assert name(house).keyring.version == 2
    put_in_force([anna], [anna])
    assert name(house).set.version == 2
    assert TenantApprovers.objects.count() == 3


@pytest.mark.parametrize(("who", "by"), [("member", MEMBER), ("stranger", STRANGER), ("stranger", OWNER)])
def test_only_owners_name(house: House, first: ApproverSetVersion, who: str, by: Device) -> None:
    """Not a member, not a stranger, not with the owner's own key."""
    refused("not_allowed", lambda: name(house, by, who))
    refused("not_allowed", lambda: agree(house, by, who))


def test_staff_cannot_name(house: House, first: ApproverSetVersion, anna: Colleague) -> None:
    """The mightiest of the staff is no owner; nor does the approver's own passkey name them."""
    house.people["root"] = anna.user
    refused("not_allowed", lambda: name(house, OWNER, "root"))
    mine = anna.sign(Purpose.APPROVERS, first.document)
    refused(
        "not_an_owner",
        lambda: approvers_name(actor=house.actor(), tenant=house.tenant, version=1, signature=mine),
    )


def test_what_is_no_naming(house: House, first: ApproverSetVersion) -> None:
    """Another set, tenant, purpose or key; a set that is not in force."""
    refused("bad_signature", lambda: name(house, signed={"hash": "0" * 64}))
    refused("bad_signature", lambda: name(house, signed={"tenant_id": str(uuid.uuid4())}))
    refused("bad_signature", lambda: name(house, purpose=Purpose.APPROVERS))
    refused("not_an_owner", lambda: name(house, STRANGER))
    refused("not_an_owner", lambda: name(house, by_whom=7))
    refused("stale", lambda: name(house, version=2))
    assert not TenantApprovers.objects.exists()


def test_there_must_be_something_to_name(tenant: Tenant, owner: User, house: House) -> None:
    """No set, no naming."""
    refused("no_approvers", lambda: name(house))


def test_without_a_keyring_nobody_signs(
    make_tenant: Callable[..., Tenant], owner: User, first: ApproverSetVersion
) -> None:
    """The keyring says who is an owner."""
    bare = make_tenant("bare")
    membership_add(actor=TESTER, tenant=bare, user=owner, role=Membership.Role.OWNER)
    house = House(bare, {"owner": owner})
    refused("no_keyring", lambda: name(house))
    refused("no_keyring", lambda: agree(house))


def test_an_owners_passkey_signs_too(house: House, first: ApproverSetVersion) -> None:
    """What is kept of its signature is what the machine needs, and nothing that stood beside it."""
    phone = Passkey()
    house.register(kind="passkey", public_key=phone.key.public_key, name="Phone", credential_id="x")
    keyring = latest_keyring(house.tenant)
    assert keyring is not None
    house.accept(house.next(keyring, entry(OWNER.key), entry(phone.key, name="Phone")))
    signature = {**naming(phone, first.document, str(house.tenant.pk)), "more": "x"}
    named = approvers_name(actor=house.actor(), tenant=house.tenant, version=1, signature=signature)
    assert named.signature.keys() == {"kind", "by", "client_data", "authenticator_data", "signature"}


def test_terms(house: House, heard: Heard) -> None:
    """Version by version; the same again changes nothing; the machine is told."""
    told = heard(terms_changed)
    kept = agree(house)
    assert kept.document == {
        "version": 1,
        "tenant_id": str(house.tenant.pk),
        "ordinary": "owner",
        "emergency": "closed",
    }
    assert agree(house, version=1) == kept
    agree(house, ordinary="approvers")
    assert [row.version for row in TermsVersion.objects.all()] == [2, 1]
    assert told == [house.tenant.pk] * 2
    assert noted("terms.accepted")[0] == {
        "version": 1,
        "ordinary": "owner",
        "emergency": "closed",
        "signed_by": OWNER.key.fingerprint,
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version": 3}, "version_skipped"),
        ({"version": 1}, "forked"),
        ({"version": 0}, "malformed"),
        ({"tenant_id": "another"}, "wrong_tenant"),
        ({"ordinary": "open"}, "malformed"),
        ({"emergency": ["closed"]}, "malformed"),
        ({"more": 1}, "malformed"),
    ],
)
def test_what_are_no_terms(house: House, changes: Any, code: str) -> None:
    """Another version than the next, another tenant's, words that mean nothing."""
    agree(house, ordinary="approvers")
    refused(code, lambda: agree(house, **changes))
    assert TermsVersion.objects.count() == 1


def test_an_older_version_is_not_taken(house: House) -> None:
    """Neither the one before, nor one that somebody held back."""
    agree(house)
    agree(house, ordinary="closed")
    refused("rolled_back", lambda: agree(house, version=1, ordinary="approvers"))


def test_terms_are_signed_by_an_owner_of_the_keyring(house: House) -> None:
    """Whoever holds the owner's account still needs the owner's key."""
    for key in (STRANGER, MEMBER):
        refused("not_an_owner", partial(agree, house, key))
    document = terms_draft(tenant=house.tenant, ordinary="owner", emergency="owner")
    signature = OWNER.sign(Purpose.CONSENT, document)
    refused(
        "bad_signature",
        lambda: terms_accept(
            actor=house.actor(), tenant=house.tenant, document=document, signature=signature
        ),
    )
