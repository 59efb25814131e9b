"""How long break-glass access takes to reach a real guest, and its end: rounds of one ticket after the other.

What the urgent worker does runs in this process; the broker between adds some milliseconds.
"""

import time
from statistics import median
from typing import Any

from django.contrib.auth.models import User

from breakglass import grants, pushing
from breakglass.models import Ticket
from breakglass.services.endings import ticket_revoke
from provisioning.models import Host, Runtime
from tenants.models import Membership
from tenants.services import membership_add
from tests.breakglass.access import Staffed, staffed
from tests.conftest import TESTER

ROUNDS = 20


def measure(runtime: Runtime) -> dict[str, float]:
    """Seconds from the start of access until the guest has the grant, and from its end until all is cut.

    Empty if simulated.

    Raises:
        RuntimeError: the guest does not take a grant, or does not confirm its end.
    """
    if runtime.host is None or runtime.host.engine == Host.Engine.TEST:
        return {}
    people = _people(runtime)
    pushing.apply(runtime.pk)
    taken, ended = zip(*(_one(people) for _ in range(ROUNDS)), strict=True)
    return {
        "begun → taken by the guest": median(taken),
        "revoked → cut in the guest": median(ended),
        "revoked → cut, worst of 20": max(ended),
    }


def _one(people: Staffed) -> tuple[float, float]:
    ticket = people.begun()
    began = time.perf_counter()
    grants.apply(ticket.pk)
    taken = time.perf_counter() - began
    ticket_revoke(actor=people.anna.actor, ticket=ticket)
    began = time.perf_counter()
    grants.apply(ticket.pk)
    ended = time.perf_counter() - began
    row = Ticket.objects.get(pk=ticket.pk)
    if row.delivered_at is None or row.end_confirmed_at is None:
        raise RuntimeError(f"access was not carried to the guest: {row.delivery_refused or 'no answer'}")
    return taken, ended


def _people(runtime: Runtime) -> Staffed:
    def make(name: str, **more: Any) -> User:
        return User.objects.create_user(f"bench-{name}", **more)

    owner = make("owner")
    membership_add(actor=TESTER, tenant=runtime.tenant, user=owner, role=Membership.Role.OWNER)
    return staffed(runtime.tenant, owner, make)
