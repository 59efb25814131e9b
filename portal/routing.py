"""The way from a portal session to a runtime's own origin, and a token for each request that goes there.

Two hosts, two sets of cookies: the portal's session never reaches a runtime's origin. A member asks the
portal for a ticket, shows it once on the runtime's origin and gets a cookie there (`RouteGrant`). With each
request nginx asks :func:`authorize`, which records it and signs a token for exactly that method and path. The
token gets the request to the guest's door; whether the guest opens is the guest's matter.

An operator with a break-glass ticket comes the same way, to other doors (:mod:`portal.ticket_passages`).
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import sha256
from importlib import import_module
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from audit.context import Actor, bind, session_name
from audit.services import record
from breakglass.models import Ticket
from portal import routed_paths, ticket_passages
from portal.models import RouteGrant
from portal.passages import Passage
from portal.passages import RouteRefused as RouteRefused
from portal.rates import ROUTED, RateExceeded, note_refusal, spend
from protocol.enrolment import CONTROL_PLANE_URI
from protocol.tokens import new_runtime_token, sign
from provisioning.models import Runtime
from tenants.models import Membership, Tenant
from tenants.selectors import Person
from tenants.sites import rp_id, tenant_origin

TICKET_LIFETIME = timedelta(seconds=30)
COOKIE = "__Host-route"
MAX_PATH = 2048
BREAK_GLASS_PAGE = "/break-glass"
BY_TICKET = "break-glass"
"""What the link of an operator's says, so that one which is spent tells where to get another."""


@dataclass(frozen=True)
class Entered:
    """What replaces a spent ticket."""

    cookie: str
    page: str
    """Where the browser goes on to, on the runtime's origin."""


def slug_of(host: str) -> str:
    """The runtime whose origin ``host`` (with or without port) is; empty for the portal's own."""
    name, base = host.partition(":")[0].lower(), rp_id()
    slug, dot, rest = name.partition(".")
    return slug if dot and rest == base else ""


@transaction.atomic
def route_open(*, actor: Actor, tenant: Tenant, session_key: str) -> str:
    """A URL on the runtime's origin that lets this session's person in, once, within 30 seconds.

    Raises:
        RouteRefused: not a member, or the machine cannot be reached now.
    """
    if actor.user is None or _role(actor.user, tenant) is None:
        raise RouteRefused(403, "not_a_member", "Only the tenant's members open its machine.")
    _reachable(tenant)
    url = _begin(actor.user, tenant, session_key)
    record(action="route.opened", actor=actor, tenant_id=tenant.pk, target=("tenant", tenant.pk))
    return url


@transaction.atomic
def route_open_ticket(*, actor: Actor, ticket: Ticket, session_key: str) -> str:
    """The same for an operator whose break-glass ticket is active and whose grant the guest has taken.

    Raises:
        RouteRefused: not the requester's, over, or not with the guest yet.
    """
    if actor.user is None:
        raise RouteRefused(403, "ticket_over", "Only who asked for the access uses it.")
    found = ticket_passages.ticket_in_use(actor.user, ticket.tenant, ticket.pk)
    if found.delivered_at is None:
        words = f"The machine refuses it: {found.delivery_refused}." if found.delivery_refused else ""
        words = words or "The machine has not taken it yet. Try again in a few seconds."
        raise RouteRefused(403, "not_delivered", words)
    url = _begin(actor.user, found.tenant, session_key, found)
    record(action="break_glass.opened", actor=actor, tenant_id=found.tenant_id, target=("ticket", found.pk))
    return url


def _begin(user: Person, tenant: Tenant, session_key: str, ticket: Ticket | None = None) -> str:
    RouteGrant.objects.filter(expires_at__lte=timezone.now()).delete()
    secret = secrets.token_urlsafe(32)
    RouteGrant.objects.create(
        tenant=tenant,
        user_id=user.pk,
        session_key=session_key,
        secret_sha256=_hash(secret),
        expires_at=timezone.now() + TICKET_LIFETIME,
        break_glass=ticket,
    )
    asked = ({"by": BY_TICKET} if ticket else {}) | {"ticket": secret}
    return f"{tenant_origin(tenant)}/.portal/enter?{urlencode(asked)}"


@transaction.atomic
def route_enter(*, slug: str, ticket: str) -> Entered:
    """Spend a ticket; the cookie that replaces it.

    Raises:
        RouteRefused: unknown, used, too old, or for another runtime.
    """
    found = RouteGrant.objects.filter(
        secret_sha256=_hash(ticket), entered=False, expires_at__gt=timezone.now(), tenant__slug=slug
    )
    cookie = secrets.token_urlsafe(32)
    grant = found.select_related("user").first()
    lasts = timezone.now() + timedelta(seconds=settings.SESSION_COOKIE_AGE)
    # One statement decides: of two who show the same ticket, one changes the row.
    if grant is None or not found.update(secret_sha256=_hash(cookie), entered=True, expires_at=lasts):
        raise RouteRefused(401, "ticket_spent", "This link has been used or is too old.")
    by_ticket = grant.break_glass_id is not None
    with bind(session=_session_of(grant)):
        record(
            action="break_glass.entered" if by_ticket else "route.entered",
            actor=Actor.of(grant.user),
            tenant_id=grant.tenant_id,
            target=("ticket", grant.break_glass_id) if by_ticket else ("tenant", grant.tenant_id),
        )
    return Entered(cookie, BREAK_GLASS_PAGE if by_ticket else "/")


def authorize(*, slug: str, cookie: str, method: str, path: str) -> Passage:
    """Record one routed request and sign its token. Asks everything anew: session, membership, machine.

    Raises:
        RouteRefused: 401 without a grant whose session lives, 403 if the member or the machine is not there,
            or the tenant has used up its requests of this minute.
    """
    grant = _way_in(slug, cookie)
    actor = Actor.of(grant.user)
    with bind(session=_session_of(grant)):
        try:
            if grant.break_glass_id is not None:
                return ticket_passages.passage(
                    actor=actor,
                    tenant=grant.tenant,
                    ticket_id=grant.break_glass_id,
                    method=method,
                    path=path,
                )
            return _member_passage(actor, grant, method, path)
        except RouteRefused as refusal:
            refusal.actor = actor
            raise


def _way_in(slug: str, cookie: str) -> RouteGrant:
    """The grant behind the cookie, whose portal session lives."""
    grant = (
        RouteGrant.objects.filter(
            secret_sha256=_hash(cookie), entered=True, expires_at__gt=timezone.now(), tenant__slug=slug
        )
        .select_related("user", "tenant__plan")
        .first()
    )
    if grant is None or not _session_lives(grant):
        raise RouteRefused(401, "route_required", "Open the machine from its page at the portal.")
    return grant


def _member_passage(actor: Actor, grant: RouteGrant, method: str, path: str) -> Passage:
    role = _role(grant.user, grant.tenant)
    if role is None:
        raise RouteRefused(403, "not_a_member", "You are no longer a member of this tenant.")
    try:
        spend(ROUTED, grant.tenant_id, grant.tenant.plan.routed_per_minute)
    except RateExceeded as refused:
        note_refusal(actor=actor, tenant_id=grant.tenant_id, refused=refused)
        raise RouteRefused(403, RouteRefused.TOO_MANY, str(refused), refused.wait) from None
    return _passage(actor, grant.tenant, role, method, path)


@transaction.atomic
def _passage(actor: Actor, tenant: Tenant, role: str, method: str, path: str) -> Passage:
    if len(path) > MAX_PATH:
        raise RouteRefused(403, "path_too_long", "The address is too long.")
    runtime = _reachable(tenant)
    record(
        action="request.routed",
        actor=actor,
        tenant_id=tenant.pk,
        target=("runtime", runtime.pk),
        data={"method": routed_paths.method_of(method), "path": routed_paths.named(path)},
    )
    token = new_runtime_token(
        issuer=CONTROL_PLANE_URI,
        runtime_id=str(runtime.pk),
        tenant_id=str(tenant.pk),
        actor=f"{actor.kind}:{actor.id}",
        role=role,
        method=method,
        path=path,
        body=None,
        now=int(time.time()),
    )
    return Passage(sign(token, settings.ROUTE_KEY), runtime.agent_address, str(runtime.pk))


def _role(user: object, tenant: Tenant) -> str | None:
    if not isinstance(user, User) or not user.is_active:
        return None
    return Membership.objects.filter(user=user, tenant=tenant).values_list("role", flat=True).first()


def _reachable(tenant: Tenant) -> Runtime:
    runtime = Runtime.objects.filter(tenant=tenant, phase=Runtime.Phase.READY).first()
    if runtime is None or not runtime.agent_address:
        raise RouteRefused(403, "machine_not_ready", "The machine is not running. Start it first.")
    if runtime.access_closed_by:
        raise RouteRefused(403, "access_closed", "Access to the machine is closed.")
    return runtime


def _session_of(grant: RouteGrant) -> Callable[[], str]:
    """The portal session behind a grant: the runtime's origin has none of its own."""
    return partial(session_name, grant.session_key)


def _session_lives(grant: RouteGrant) -> bool:
    """Whether the portal session still exists and is still this person's, by Django's own rules."""
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(grant.session_key)
    return get_user(request).pk == grant.user_id


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
