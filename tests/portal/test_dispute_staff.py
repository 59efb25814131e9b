"""A signed history that the log does not continue: red for all staff until somebody has looked into it."""

import pytest

from audit import disputes, log
from audit.acknowledging import NotAcknowledged
from audit.alerts import loud
from audit.models import Dispute, DisputeAcknowledgement, Entry
from audit.verification.outside import disputed
from protocol.checkpoints import opened
from tests.portal.conftest import TESTER, Place, World
from tests.portal.test_record_proofs import forge
from tests.portal.test_witness_staff import REASON, act

pytestmark = pytest.mark.django_db
DISPUTES = "/admin/audit/dispute/"
ALARM = "Somebody has shown a checkpoint with the log&#x27;s own signature"


def show(place: Place, size: int = 50) -> Dispute:
    disputes.dispute(actor=TESTER, tenant_id=place.tenant.pk, kept=forge(size, b"\1" * 32), here=60)
    return Dispute.objects.get(size=size)


def test_it_is_on_every_page(world: World) -> None:
    """For everybody on the staff, with the way to it; whose member it was stands only before those who may know."""
    show(world.other)
    for role in ("operator", "half staff", "superuser"):
        page = world.client(role).get("/admin/tenants/tenant/").content.decode()
        assert ALARM in page
        assert f'href="{DISPUTES}"' in page
        assert str(world.other.tenant.pk) not in page or role != "half staff"
    assert ALARM not in world.client("owner").get("/t/acme/").content.decode()


def test_the_evidence_is_on_its_page(world: World) -> None:
    row = show(world.mine)
    page = world.client("operator").get(f"{DISPUTES}{row.pk}/change/").content.decode()
    assert row.note.splitlines()[0] in page
    assert "AQEBAQEBAQEB" in page, "its root"


def test_one_history_is_one_alarm(world: World) -> None:
    """Whoever shows it, and how often: nobody fills a table, and each time is on record."""
    before = Entry.objects.filter(action="record.disputed").count()
    rows = {show(place).pk for place in (world.mine, world.other, world.mine)}
    assert len(rows) == 1
    assert Entry.objects.filter(action="record.disputed").count() == before + 3
    assert [alert.code for alert in loud()] == ["record_disputed"]
    assert [(claim.size, claim.root) for claim in disputed()] == [(50, b"\1" * 32)]


def test_acknowledging_asks_for_a_reason(world: World) -> None:
    """With one the alarm ends, also for who verifies; the evidence stays, and the same history is no new alarm."""
    row, client = show(world.mine), world.client("operator")
    page = act(client, DISPUTES, "acknowledge", row).content.decode()
    assert "why?" in page
    assert "the key is stolen" in page
    act(client, DISPUTES, "acknowledge", row, reason="short")
    assert not DisputeAcknowledgement.objects.filter(dispute=row).exists()
    page = act(client, DISPUTES, "acknowledge", row, reason=REASON).content.decode()
    assert ALARM not in page
    assert (loud(), list(disputed())) == ([], [])
    (entry,) = Entry.objects.filter(
        action="record.dispute_acknowledged", actor_id=str(world.people["operator"].pk)
    )
    assert (DisputeAcknowledgement.objects.get(dispute=row).why in entry.event, REASON in entry.event) == (
        True,
        False,
    )
    assert REASON in client.get(f"{DISPUTES}?state=acknowledged").content.decode()
    with pytest.raises(NotAcknowledged, match="already"):
        disputes.dispute_acknowledge(actor=TESTER, dispute=row, reason=REASON)
    disputes.dispute(actor=TESTER, tenant_id=row.tenant_id, kept=row.note, here=60)
    assert loud() == []
    assert opened(Dispute.objects.get(pk=row.pk).note, log.vkey()).size == 50


def test_only_those_who_may_acknowledge(world: World) -> None:
    """Half staff look; the action is not theirs."""
    row = show(world.mine)
    act(world.client("half staff"), DISPUTES, "acknowledge", row, reason=REASON)
    assert not DisputeAcknowledgement.objects.filter(dispute=row).exists()


def test_no_acknowledgement_without_its_entry(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1: the alarm stays."""
    row = show(world.mine)
    monkeypatch.setattr(disputes, "record", lambda **_: (_ for _ in ()).throw(RuntimeError("refused")))
    form = {"action": "acknowledge", "_selected_action": [row.pk], "reason": REASON}
    assert world.client("operator").post(DISPUTES, form).status_code == 500
    assert not DisputeAcknowledgement.objects.filter(dispute=row).exists()
