"""Staff with passkeys, a set of approvers that a tenant's owner has named, and tickets of theirs. No browser."""

from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet

from audit.context import Actor
from breakglass import services
from breakglass.models import (
    Approval,
    ApproverSetVersion,
    Intent,
    Mismatch,
    Notice,
    OwnerApproval,
    Passkey,
    Receipt,
    ReceiptHead,
    Rejection,
    Review,
    Revision,
    TenantApprovers,
    Ticket,
)
from protocol.approvers import DEFAULT_POLICY, ApproverSet
from protocol.persons import Purpose, encode
from protocol.tickets import Ticket as Document
from protocol.tickets import rejection_document
from provisioning.models import Runtime
from tenants.models import KeyringVersion, Tenant
from tests.breakglass.lowered import triggers_down
from tests.protocol.people import Passkey as Authenticator

WHY = "The gateway fails since noon; I look for the cause."
_ORDER = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)


def authenticator(user: User) -> Authenticator:
    """The one device of ``user``: the same in every test."""
    number = int.from_bytes(sha256(f"passkey of {user.username}".encode()).digest(), "big")
    return Authenticator(ec.derive_private_key(number % (_ORDER - 1) + 1, ec.SECP256R1()))


def passkey(user: User) -> Passkey:
    """Its row, registered if it is not."""
    key = authenticator(user).key
    found, _ = Passkey.objects.get_or_create(
        public_key=key.public_key.hex(),
        defaults={
            "user": user,
            "credential_id": encode(sha256(key.public_key).digest()),
            "fingerprint": key.fingerprint,
            "name": f"{user.username}'s laptop",
        },
    )
    return found


def approvers(*users: User, **policy: int) -> ApproverSetVersion:
    """A next version of the set, with these people in it."""
    keys = [passkey(user) for user in users]
    before = ApproverSetVersion.objects.first()
    most = len(users)
    numbers = {name: min(most, number) for name, number in DEFAULT_POLICY.items()} | policy
    document = {
        "version": before.version + 1 if before else 1,
        "previous": before.hash if before else None,
        "threshold": max(numbers.values()),
        "policy": numbers,
        "approvers": [
            {"kind": "passkey", "public_key": key.public_key, "person": key.person, "name": key.user.username}
            for key in keys
        ],
    }
    parsed = ApproverSet.parse(document)
    return ApproverSetVersion.objects.create(
        version=parsed.version, hash=parsed.hash, document=document, signatures=[]
    )


def named(tenant: Tenant) -> TenantApprovers:
    """An owner has named the set in force; nobody checks a signature here but the guest."""
    keyring = KeyringVersion.objects.filter(tenant=tenant).latest("pk")
    current = ApproverSetVersion.objects.latest("version")
    return TenantApprovers.objects.create(tenant=tenant, set=current, keyring=keyring, signature={})


def sign(user: User, purpose: Purpose, document: Any, **lies: Any) -> dict[str, str]:
    """As the portal's page would have it signed."""
    return authenticator(user).sign(purpose, document, **({"origin": settings.BASE_URL} | lies))


def ask(user: User, tenant: Tenant, **asked: Any) -> Ticket:
    """A ticket of ``user``, who may operate ``tenant``."""
    given = {"kind": "ordinary", "reason": WHY, "scopes": ["logs:read"], **asked}
    actor = Actor.of(user)
    document = services.draft(actor=actor, tenant=tenant, passkey=passkey(user), **given)
    return services.ticket_open(
        actor=actor, document=document, signature=sign(user, Purpose.ACCESS_REQUEST, document)
    )


def approve(user: User, ticket: Ticket) -> Ticket:
    """``user`` is in the set."""
    signature = sign(user, Purpose.APPROVAL, ticket.document)
    return services.ticket_approve(actor=Actor.of(user), ticket=ticket, signature=signature)


def reject(user: User, ticket: Ticket, words: str = "") -> Ticket:
    """``user`` is in the set."""
    document = rejection_document(Document.parse(ticket.document))
    signature = sign(user, Purpose.REJECTION, document)
    return services.ticket_reject(actor=Actor.of(user), ticket=ticket, signature=signature, words=words)


def begin(ticket: Ticket, *by: User) -> Ticket:
    """Approved by all of ``by``, and begun by its requester."""
    for user in by:
        ticket = approve(user, ticket)
    return services.ticket_start(actor=Actor.of(ticket.requester), ticket=ticket)


def without_machine(runtime: Runtime) -> None:
    """As if the tenant had none yet. A ticket keeps its machine's row, and the database keeps the ticket."""
    under: list[type[Model]] = [Notice, Intent, Approval, Rejection, OwnerApproval, Review, Revision]
    of: list[type[Model]] = [Mismatch, Receipt, ReceiptHead, Ticket]
    with triggers_down():
        for model in under:
            QuerySet(model).filter(ticket__runtime=runtime).delete()
        for model in of:
            QuerySet(model).filter(runtime=runtime).delete()
        runtime.operations.all().delete()
        runtime.delete()
