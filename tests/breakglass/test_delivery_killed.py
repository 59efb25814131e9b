"""A worker that dies at any moment of a delivery or an end: the next one finishes, and nothing is open that should not be."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from breakglass import grants, receipts, tasks
from breakglass.models import Receipt, Ticket
from breakglass.pacing import Pace
from breakglass.services.endings import ticket_revoke
from provisioning.models import GuestImage, Host
from provisioning.runtime_client import RuntimeClient
from tenants.models import Tenant
from tests.breakglass.access import Staffed, staffed
from tests.provisioning.workers import created

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
_DIES = """
import django, os, signal, sys
django.setup()
from breakglass import grants, receipts
from provisioning.runtime_client import RuntimeClient
holder = {{"client": RuntimeClient, "grants": grants, "receipts": receipts}}["{holder}"]
setattr(holder, "{name}", lambda *args, **given: os.kill(os.getpid(), signal.SIGKILL))
from uuid import UUID
{call}(UUID(sys.argv[1]))
"""
POINTS = {
    "before the guest hears of a grant": ("client", "deliver_grant"),
    "after it has taken it": ("grants", "_note_delivery"),
    "before it hears of an end": ("client", "end_grant"),
    "after it has cut": ("grants", "_note_end"),
}


@pytest.fixture
def people(
    simulated_host: Host,
    tenant: Tenant,
    owner: User,
    image: GuestImage,
    make_user: Callable[..., User],
    monkeypatch: pytest.MonkeyPatch,
) -> Staffed:
    """With a machine that runs: a real agent on the simulated engine. No broker hears of anything."""
    for module in (grants, receipts):
        monkeypatch.setattr(module, "PACE", Pace())
    monkeypatch.setattr("celery.current_app.send_task", lambda *args, **given: None)
    found = staffed(tenant, owner, make_user)
    created(tenant)
    return found


def die(environment: dict[str, str], holder: str, name: str, call: str, identifier: object) -> None:
    """Run ``call`` in a process that is killed where ``holder.name`` would be called."""
    code = _DIES.format(holder=holder, name=name, call=call)
    done = subprocess.run(
        [sys.executable, "-c", code, str(identifier)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -9, done.stderr[-2000:]


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_is_killed(people: Staffed, children_environment: dict[str, str], point: str) -> None:
    holder, name = POINTS[point]
    ends = name in {"end_grant", "_note_end"}
    ticket = people.begun()
    if ends:
        tasks.grant_apply(str(ticket.pk))
        ticket_revoke(actor=people.anna.actor, ticket=ticket)
    die(children_environment, holder, name, "grants.apply", ticket.pk)
    assert list(grants.unended() if ends else grants.undelivered()) == [ticket], "the sweep finds it"
    tasks.grant_apply(str(ticket.pk), True)
    row = Ticket.objects.get(pk=ticket.pk)
    assert (row.delivered_at is not None, row.end_confirmed_at is not None) == (True, ends)
    held = RuntimeClient.urgent(Ticket.objects.get(pk=ticket.pk).runtime).status()["grants"]
    assert held == ([] if ends else [str(ticket.pk)])
    assert not (grants.unended() | grants.undelivered()).exists()


def test_a_worker_is_killed_while_it_reads_receipts(
    people: Staffed, children_environment: dict[str, str]
) -> None:
    """Before it has kept them: the next one keeps each once."""
    ticket = people.begun()
    tasks.grant_apply(str(ticket.pk))
    die(children_environment, "receipts", "_take", "receipts.fetch", ticket.runtime_id)
    assert not Receipt.objects.exists()
    assert receipts.fetch(ticket.runtime_id) == 1
    assert receipts.fetch(ticket.runtime_id) == 0
