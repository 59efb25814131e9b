"""A tenant whose owner has named approvers, and tickets brought to any state by people with passkeys in software."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from breakglass.models import Ticket
from breakglass.selectors import current_set
from breakglass.services.drafting import draft
from breakglass.services.naming import approvers_name
from breakglass.services.terms import terms_accept, terms_draft
from breakglass.services.tickets import ticket_approve, ticket_open, ticket_owner_approve, ticket_start
from protocol.persons import Purpose
from provisioning.models import GuestImage, Host, Runtime
from tenants.models import Tenant
from tests.breakglass.staff import Colleague, maker, put_in_force
from tests.protocol.people import OWNER, naming
from tests.tenants.conftest import House

REASON = "The nightly build fails and nobody at the tenant's answers."


@dataclass
class Staffed:
    """``greta`` asks, ``anna`` and ``ben`` approve; ``house`` is the tenant's."""

    house: House
    greta: Colleague
    anna: Colleague
    ben: Colleague
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def tenant(self) -> Tenant:
        return self.house.tenant

    def sign(self, who: Colleague, purpose: Purpose, document: Any) -> dict[str, str]:
        """On the portal's page."""
        return who.sign(purpose, document, origin=settings.BASE_URL)

    def name_approvers(self) -> None:
        """The owner signs the set in force."""
        current = current_set()
        assert current is not None
        approvers_name(
            actor=self.house.actor(),
            tenant=self.tenant,
            version=current.version,
            signature=naming(OWNER, current.document, str(self.tenant.pk)),
        )

    def terms(self, ordinary: str = "approvers", emergency: str = "approvers") -> None:
        """The owner signs terms."""
        document = terms_draft(tenant=self.tenant, ordinary=ordinary, emergency=emergency)
        signature = OWNER.sign(Purpose.TERMS, document)
        terms_accept(actor=self.house.actor(), tenant=self.tenant, document=document, signature=signature)

    def asked(self, **changes: Any) -> Ticket:
        """A ticket that waits."""
        wanted = {
            "kind": "ordinary",
            "reason": REASON,
            "scopes": ["status", "workspace:read"],
            "paths": ["reports"],
            "seconds": 600,
            **changes,
        }
        document = draft(actor=self.greta.actor, tenant=self.tenant, passkey=self.greta.passkey, **wanted)
        signature = self.sign(self.greta, Purpose.ACCESS_REQUEST, document)
        return ticket_open(actor=self.greta.actor, document=document, signature=signature)

    def approved(self, ticket: Ticket, *by: Colleague) -> Ticket:
        """Signed by all of ``by``; by anna if nobody is named."""
        for who in by or (self.anna,):
            signature = self.sign(who, Purpose.APPROVAL, ticket.document)
            ticket = ticket_approve(actor=who.actor, ticket=ticket, signature=signature)
        return ticket

    def owner_agrees(self, ticket: Ticket) -> Ticket:
        signature = OWNER.sign(Purpose.OWNER_APPROVAL, ticket.document)
        return ticket_owner_approve(actor=self.house.actor(), ticket=ticket, signature=signature)

    def begun(self, *by: Colleague, **changes: Any) -> Ticket:
        """A ticket that is active."""
        ticket = self.approved(self.asked(**changes), *by)
        return ticket_start(actor=self.greta.actor, ticket=ticket)


def ready_machine(tenant: Tenant, host: Host, image: GuestImage, address: str, number: int = 0) -> Runtime:
    """The row of a machine that is ready. Nothing runs."""
    return Runtime.objects.create(
        tenant=tenant,
        host=host,
        image=image,
        phase=Runtime.Phase.READY,
        vcpus=1,
        cpu_percent=100,
        memory_mib=512,
        disk_gib=1,
        network_index=number,
        mac=f"52:54:00:00:00:{number + 1:02x}",
        agent_address=address,
        sealing_public_key="00" * 32,
        first_ready_at=timezone.now(),
    )


def operate(user: User) -> None:
    """Make somebody an operator of every tenant."""
    permission = Permission.objects.get(codename="operate_tenant", content_type__app_label="tenants")
    user.user_permissions.add(permission)


def staffed(tenant: Tenant, owner: User, make_user: Callable[..., User]) -> Staffed:
    """The people, a set of the two approvers, and the owner's naming of it."""
    house = House(tenant, {"owner": owner})
    house.found()
    make = maker(make_user)
    found = Staffed(house, make("greta"), make("anna", is_superuser=True), make("ben"))
    operate(found.greta.user)
    put_in_force([found.anna, found.ben], [found.anna, found.ben], 2)
    found.name_approvers()
    return found
