"""Rule 1 for every action of the staff's lists and every inline form: an entry for each row, or no change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client, RequestFactory

from audit.models import Dispute, Entry, PersonalDatum, Witness, WitnessRefusal
from audit.witnesses import witness_register
from breakglass.models import Mismatch
from provisioning.models import Operation, Runtime
from provisioning.transitions import TRANSITIONS
from tenants.models import TenantConnector
from tests.completeness.broken import broken_record, everything
from tests.completeness.cases import CHANGES, WITNESS_KEY, without_machine
from tests.net import Net
from tests.portal.conftest import TESTER, World

pytestmark = pytest.mark.django_db
REASON = "It has to be done now."


@dataclass(frozen=True)
class Deed:
    """An action on one row: which, the newest entry after it, and what stands before."""

    row: Callable[[World], Model | None]
    action: str
    before: Callable[[World], Any] = lambda world: None


def settled(kind: str) -> Callable[[World], None]:
    """The machine in a phase from which ``kind`` may be asked for, and with something to resize to."""

    def prepare(world: World) -> None:
        phase = sorted(TRANSITIONS[kind].allowed - {"failed"}, key=lambda name: name != "ready")[0]
        fresh = TRANSITIONS[kind].needs_data is False
        Runtime.objects.filter(pk=world.mine.runtime.pk).update(
            phase=phase, **({"first_ready_at": None, "host": None, "reserved": False} if fresh else {})
        )
        if kind == "resize":
            type(world.mine.tenant.plan).objects.update(cpu_percent=50)
        if kind == "resize_restart":
            type(world.mine.tenant.plan).objects.update(memory_mib=768)

    return prepare


def machine(world: World) -> Model:
    return world.mine.runtime


def watched_by(world: World) -> None:
    """A witness outside, and a refusal of its that nobody has looked into."""
    witness = witness_register(actor=TESTER, vkey=WITNESS_KEY, url="https://w.example.org/")
    WitnessRefusal.objects.create(witness=witness, reason=WitnessRefusal.Reason.SMALLER, size=9)


def disputed(world: World) -> None:
    """A history that somebody has shown, and that nobody has looked into."""
    Dispute.objects.create(tenant_id=world.mine.tenant.pk, size=9, root=bytes(32), note="")


def unmeant(world: World) -> None:
    """A use of the machine that nobody meant, and that nobody has looked into."""
    Mismatch.objects.create(runtime=world.mine.runtime, kind=Mismatch.Kind.NO_INTENT, token="other", seq=2)


DEEDS: dict[tuple[str, str], Deed] = {
    **{
        ("provisioning.Runtime", f"request_{kind}"): Deed(machine, "operation.requested", settled(kind))
        for kind in Operation.Kind.values
    },
    ("provisioning.Runtime", "close_access"): Deed(machine, "access.closed"),
    ("provisioning.Runtime", "reopen_access"): Deed(
        machine, "access.reopened", lambda world: Runtime.objects.update(access_closed_by="staff")
    ),
    ("provisioning.Host", "open_hosts"): Deed(lambda world: world.mine.runtime.host, "host.enabled"),
    ("provisioning.Host", "drain_hosts"): Deed(lambda world: world.mine.runtime.host, "host.drained"),
    ("provisioning.GuestImage", "retire_images"): Deed(
        lambda world: world.mine.runtime.image, "image.retired"
    ),
    ("audit.Witness", "retire"): Deed(
        lambda world: Witness.objects.get(target=""), "witness.retired", watched_by
    ),
    ("audit.WitnessRefusal", "acknowledge"): Deed(
        lambda world: WitnessRefusal.objects.get(acknowledgement=None),
        "witness.refusal_acknowledged",
        watched_by,
    ),
    ("audit.Dispute", "acknowledge"): Deed(
        lambda world: Dispute.objects.get(acknowledgement=None), "record.dispute_acknowledged", disputed
    ),
    ("breakglass.Mismatch", "acknowledge"): Deed(
        lambda world: Mismatch.objects.get(acknowledged_at=None),
        "break_glass.mismatch_acknowledged",
        unmeant,
    ),
    ("audit.PersonalDatum", "erase"): Deed(
        lambda world: PersonalDatum.objects.filter(subject=f"user:{world.mine.membership.user_id}")[0],
        "personal.erased",
    ),
    ("tenants.Tenant", "rotate_keys"): Deed(lambda world: world.mine.tenant, "tenant_key.rotation_asked"),
    ("tenants.Tenant", "offboard"): Deed(
        lambda world: world.mine.tenant, "tenant.offboarded", without_machine
    ),
    ("tenants.ConnectorSecret", "revoke"): Deed(lambda world: world.mine.secret, "secret.revoked"),
    ("tenants.TenantConnector", "forbid"): Deed(lambda world: world.mine.connector, "connector.forbidden"),
    ("tenants.TenantConnector", "allow"): Deed(
        lambda world: world.mine.connector,
        "connector.allowed",
        lambda world: TenantConnector.objects.update(allowed=False, enabled=False),
    ),
}
"""Every action there is."""

INLINES = {("tenants.Tenant", "tenants.Membership")}
"""Every inline form; tests/completeness/cases.py adds, changes and deletes a row in each."""


def do(world: World, client: Client, place: tuple[str, str]) -> int:
    """Choose the row, send the action's form."""
    row = DEEDS[place].row(world)
    assert row is not None
    url = f"/admin/{place[0].lower().replace('.', '/')}/"
    form = {"action": place[1], "_selected_action": str(row.pk), "reason": REASON}
    return int(client.post(url, form).status_code)


def test_every_action_is_in_the_table(world: World) -> None:
    """A new action, or one that a library brings along, must say here what entry it leaves."""
    request = RequestFactory().get("/")
    request.user = world.people["superuser"]
    found = {
        (model._meta.label, name)
        for model, page in admin.site._registry.items()
        for name in page.get_actions(request)
    }
    assert found == set(DEEDS)


def test_every_inline_is_in_the_table() -> None:
    """Inline forms and fields that are edited in lists are ways to change rows, too."""
    found = {
        (model._meta.label, inline.model._meta.label)
        for model, page in admin.site._registry.items()
        for inline in page.inlines
    }
    assert found == INLINES
    assert not any(page.list_editable for page in admin.site._registry.values())
    actions = {case.action for case in CHANGES["admin:tenants_tenant_change", "post"]}
    assert {"membership.added", "membership.changed", "membership.removed"} <= actions


@pytest.mark.parametrize("place", DEEDS, ids=lambda place: " ".join(place))
def test_an_action_and_its_entry_are_one(world: World, net: Net, place: tuple[str, str]) -> None:
    """With a record that takes nothing, nothing changes; with one that does, both stand in one transaction."""
    DEEDS[place].before(world)
    client = world.client("superuser")
    before = everything()
    net.units.clear()
    with broken_record():
        assert do(world, client, place) == 500
    assert everything() == before
    assert not any(unit.writes for unit in net.units)

    assert do(world, client, place) == 302
    newest = Entry.objects.exclude(action="record.viewed").latest("pk")
    assert (newest.action, newest.actor_id) == (DEEDS[place].action, str(world.people["superuser"].pk))
    assert any(unit.writes and unit.actions for unit in net.units)


def test_a_bulk_action_leaves_an_entry_for_each_row(world: World) -> None:
    """Two machines, two entries, each its tenant's own."""
    chosen = [str(place.runtime.pk) for place in (world.mine, world.other)]
    form = {"action": "close_access", "_selected_action": chosen}
    world.client("superuser").post("/admin/provisioning/runtime/", form)
    tenants = Entry.objects.filter(action="access.closed").values_list("tenant_id", flat=True)
    assert set(tenants) == {world.mine.tenant.pk, world.other.tenant.pk}
