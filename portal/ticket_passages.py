"""The operator's way to a guest by a break-glass ticket: asked anew each time, written down before it.

The token says which ticket, scopes and paths. The guest opens only to the approvals that it has checked
itself, and to the operator's own passkey: whoever holds the route key can make such tokens, and gets nothing.
"""

import time
from uuid import UUID

from django.conf import settings
from django.db import transaction

from audit.context import Actor
from audit.services import record
from breakglass.models import ApproverSetVersion, Intent, Revision, Ticket
from breakglass.transitions import ACCESS_LASTS, requester_may
from portal import routed_paths
from portal.passages import Passage, RouteRefused
from portal.rates import BREAK_GLASS, RateExceeded, note_refusal, spend
from protocol.enrolment import CONTROL_PLANE_URI
from protocol.tokens import BreakGlassToken, new_runtime_token, sign
from provisioning.models import Runtime
from tenants.models import Tenant
from tenants.selectors import Person

PER_MINUTE = 600
"""Requests of one ticket: no part of the tenant's own plan."""
MAX_PATH = 4096
"""A path of 1024 bytes, each as ``%xx``, and the route before it."""


def ticket_in_use(user: Person, tenant: Tenant, ticket_id: UUID) -> Ticket:
    """The ticket, if it lets ``user`` into the tenant's machine at this moment, by the database's clock.

    State, time, requester and their rights, passkey, set in force and machine are one question: none of the
    answers can be older than another.

    Raises:
        RouteRefused: it is over, somebody else's, or rests on something that is gone.
    """
    newest = ApproverSetVersion.objects.order_by("-version").values("version")[:1]
    found = Ticket.objects.filter(
        ACCESS_LASTS,
        requester_may(tenant),
        pk=ticket_id,
        state=Ticket.State.ACTIVE,
        requester=user.pk,
        approvers_set__version=newest,
        tenant__offboarded_at=None,
        runtime__phase=Runtime.Phase.READY,
        runtime__access_closed_by="",
    ).exclude(runtime__agent_address="")
    ticket = found.select_related("tenant", "runtime").first()
    if ticket is None:
        raise RouteRefused(403, "ticket_over", "This access is over, or the machine is not there.")
    return ticket


def passage(*, actor: Actor, tenant: Tenant, ticket_id: UUID, method: str, path: str) -> Passage:
    """Write down one request and sign its token.

    Raises:
        RouteRefused: the ticket is over; it is none of break-glass's; too many requests this minute.
    """
    if actor.user is None:
        raise RouteRefused(403, "ticket_over", "Only who asked for the access uses it.")
    ticket = ticket_in_use(actor.user, tenant, ticket_id)
    route = routed_paths.break_glass_route(method, path)
    if not route or len(path) > MAX_PATH:
        raise RouteRefused(403, "not_break_glass", "A ticket leads to the break-glass page alone.")
    try:
        spend(BREAK_GLASS, ticket.pk, PER_MINUTE)
    except RateExceeded as refused:
        note_refusal(actor=actor, tenant_id=ticket.tenant_id, refused=refused)
        raise RouteRefused(403, RouteRefused.TOO_MANY, str(refused), refused.wait) from None
    token = token_for(ticket, method=method, path=path, now=int(time.time()))
    _write_down(actor, ticket, token, route)
    return Passage(sign(token, settings.ROUTE_KEY), ticket.runtime.agent_address, str(ticket.runtime_id))


def token_for(ticket: Ticket, *, method: str, path: str, now: int) -> BreakGlassToken:
    """Claims for one request under ``ticket``: never longer than its access.

    Raises:
        RouteRefused: not a second of it is left.
    """
    revision = Revision.objects.get(ticket=ticket, revision=ticket.revision)
    plain = new_runtime_token(
        issuer=CONTROL_PLANE_URI,
        runtime_id=str(ticket.runtime_id),
        tenant_id=str(ticket.tenant_id),
        actor=f"user:{ticket.requester_id}",
        role="break-glass",
        method=method,
        path=path,
        body=None,
        now=now,
    )
    until = min(plain.exp, int(ticket.access_until.timestamp()) if ticket.access_until else 0)
    if until <= now:
        raise RouteRefused(403, "ticket_over", "This access is over.")
    more = {
        "exp": until,
        "ticket": str(ticket.pk),
        "scopes": list(revision.document["scopes"]),
        "paths": list(revision.document["paths"]),
        "digest": revision.digest,
    }
    return BreakGlassToken(**{**vars(plain), **more})


@transaction.atomic
def _write_down(actor: Actor, ticket: Ticket, token: BreakGlassToken, route: str) -> None:
    """The intent and its entry: a receipt of the guest's that names no such token is an alarm."""
    Intent.objects.create(ticket=ticket, token=token.jti, route=route, method=token.htm)
    record(
        action="break_glass.routed",
        actor=actor,
        tenant_id=ticket.tenant_id,
        target=("ticket", ticket.pk),
        data={"method": token.htm, "path": route, "token": token.jti},
    )
