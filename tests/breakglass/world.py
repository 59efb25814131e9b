"""A tenant with a machine, an operator who asks, approvers in a set in force, and an owner who named it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.utils import timezone

from audit.context import Actor
from breakglass.models import ApproverSetVersion, TenantApprovers, TermsVersion, Ticket
from breakglass.selectors import current_set
from breakglass.services import (
    draft,
    ticket_approve,
    ticket_edit,
    ticket_open,
    ticket_owner_approve,
    ticket_reject,
    ticket_start,
)
from protocol import tickets as form
from protocol.keyrings import Keyring
from protocol.persons import Purpose
from provisioning.models import GuestImage, Runtime
from tenants.models import KeyringVersion, Tenant
from tests.breakglass.staff import Colleague, put_in_force
from tests.protocol.people import OWNER, Device, keyring

REASON = "The gateway hangs since this morning; the tenant asked us to look."


@dataclass
class World:
    """``asker`` operates the tenant and approves nothing; ``anna``, ``bert`` and ``carl`` approve."""

    tenant: Tenant
    runtime: Runtime
    owner: User
    asker: Colleague
    anna: Colleague
    bert: Colleague
    carl: Colleague

    @property
    def approvers(self) -> list[Colleague]:
        return [self.anna, self.bert, self.carl]

    def drafted(self, by: Colleague | None = None, **changes: Any) -> dict[str, Any]:
        """What the asker is about to sign: one approval is needed unless other scopes are asked for."""
        by = by or self.asker
        given: dict[str, Any] = {
            "kind": "ordinary",
            "reason": REASON,
            "scopes": ["workspace:read"],
            "paths": ["logs"],
            "seconds": 600,
            "passkey": by.passkey,
        }
        return draft(actor=by.actor, tenant=self.tenant, **{**given, **changes})

    def open(self, by: Colleague | None = None, **changes: Any) -> Ticket:
        by = by or self.asker
        document = self.drafted(by, **changes)
        return ticket_open(
            actor=by.actor, document=document, signature=by.sign(Purpose.ACCESS_REQUEST, document)
        )

    def open_for_two(self, **changes: Any) -> Ticket:
        """A ticket that needs two approvals."""
        given = {"scopes": ["workspace:read", "workspace:write"], **changes}
        return self.open(**given)

    def edited(self, ticket: Ticket, **changes: Any) -> Callable[[], Ticket]:
        """The edit, signed; call it to have it taken."""
        document = self.drafted(ticket=ticket, **changes)
        signature = self.asker.sign(Purpose.ACCESS_REQUEST, document)
        return lambda: ticket_edit(
            actor=self.asker.actor, ticket=ticket, document=document, signature=signature
        )

    def signed(self, ticket: Ticket, by: Colleague, **lies: Any) -> dict[str, str]:
        return by.sign(Purpose.APPROVAL, ticket.document, **lies)

    def approve(self, ticket: Ticket, by: Colleague, **lies: Any) -> Ticket:
        return ticket_approve(actor=by.actor, ticket=ticket, signature=self.signed(ticket, by, **lies))

    def rejection(self, ticket: Ticket, by: Colleague, words: str = "", **lies: Any) -> Callable[[], Ticket]:
        """A rejection, signed; call it to have it taken."""
        document = form.rejection_document(form.Ticket.parse(ticket.document))
        signature = by.sign(Purpose.REJECTION, document, **lies)
        return lambda: ticket_reject(actor=by.actor, ticket=ticket, signature=signature, words=words)

    def reject(self, ticket: Ticket, by: Colleague, words: str = "", **lies: Any) -> Ticket:
        return self.rejection(ticket, by, words, **lies)()

    def owner_approve(self, ticket: Ticket, device: Device = OWNER) -> Ticket:
        signature = device.sign(Purpose.OWNER_APPROVAL, ticket.document)
        return ticket_owner_approve(actor=Actor.of(self.owner), ticket=ticket, signature=signature)

    def approved(self, **changes: Any) -> Ticket:
        return self.approve(self.open(**changes), self.anna)

    def active(self, **changes: Any) -> Ticket:
        return ticket_start(actor=self.asker.actor, ticket=self.approved(**changes))

    def terms(self, ordinary: str = "approvers", emergency: str = "approvers") -> TermsVersion:
        """Other terms, as if an owner had signed them."""
        version = TermsVersion.objects.filter(tenant=self.tenant).count() + 1
        document = {
            "version": version,
            "tenant_id": str(self.tenant.pk),
            "ordinary": ordinary,
            "emergency": emergency,
        }
        return TermsVersion.objects.create(
            tenant=self.tenant,
            version=version,
            document=document,
            signature={},
            keyring=KeyringVersion.objects.get(tenant=self.tenant),
        )

    def next_set(self, *people: Colleague) -> ApproverSetVersion:
        """The next set in force, by default of the same people with another threshold."""
        given = list(people) or self.approvers
        threshold = min(2, len(people)) if people else 3
        return put_in_force(given, [self.anna, self.bert], threshold=threshold)

    def fresh(self, ticket: Ticket) -> Ticket:
        return Ticket.objects.get(pk=ticket.pk)


def build(
    tenant: Tenant, image: GuestImage, owner: User, operators: Group, make: Callable[..., Colleague]
) -> World:
    """The world; the operators' group may operate every tenant."""
    runtime = Runtime.objects.create(
        tenant=tenant,
        image=image,
        phase=Runtime.Phase.READY,
        first_ready_at=timezone.now(),
        vcpus=1,
        cpu_percent=100,
        memory_mib=512,
        disk_gib=1,
        network_index=1,
        mac="52:54:00:00:00:01",
    )
    asker, anna, bert, carl = (make(name) for name in ("asker", "anna", "bert", "carl"))
    asker.user.groups.add(operators)
    anna.user.user_permissions.add(Permission.objects.get(codename="propose_set"))
    put_in_force([anna, bert, carl], [anna, bert], 2)
    found = Keyring.parse(keyring(str(tenant.pk)))
    signed = KeyringVersion.objects.create(
        tenant=tenant, version=1, hash=found.hash, document=dict(found.document), signature={}
    )
    name_approvers(tenant, signed)
    return World(tenant, runtime, owner, asker, anna, bert, carl)


def name_approvers(tenant: Tenant, signed: KeyringVersion) -> None:
    """As if the owner had signed the set in force."""
    row = current_set()
    assert row is not None
    TenantApprovers.objects.create(tenant=tenant, set=row, keyring=signed, signature={})
