"""Receipts that do not go together with the record: red for all staff until somebody has said why."""

from typing import Any

import pytest

from audit.alerts import loud
from audit.models import Entry
from breakglass.models import Mismatch
from breakglass.services import mismatches
from tests.portal.conftest import Place, World
from tests.portal.test_witness_staff import act

pytestmark = pytest.mark.django_db
MISMATCHES = "/admin/breakglass/mismatch/"
ALARM = "A guest was used by break-glass without an entry here"
REASON = "The operator's laptop was in other hands; the route key is changed."


def show(place: Place, kind: str = "no_intent", jti: str = "unknown") -> Mismatch:
    return Mismatch.objects.create(runtime=place.runtime, kind=kind, token=jti, seq=7)


def test_it_is_on_every_page(world: World) -> None:
    """For everybody on the staff, with the way to it; whose machine it was is not told."""
    show(world.other)
    for role in ("operator", "half staff", "superuser"):
        page = world.client(role).get("/admin/tenants/tenant/").content.decode()
        assert ALARM in page
        assert f'href="{MISMATCHES}"' in page
        assert str(world.other.runtime.pk) not in page or role != "half staff"
    assert ALARM not in world.client("owner").get("/t/acme/").content.decode()


def test_a_missing_receipt_is_on_the_front_page_alone(world: World) -> None:
    show(world.mine, "no_receipt")
    client = world.client("operator")
    assert "keeps no receipt" in client.get("/admin/").content.decode()
    assert "keeps no receipt" not in client.get("/admin/tenants/tenant/").content.decode()


def test_acknowledging_asks_for_a_reason(world: World) -> None:
    """With one the alarm ends; the row stays, and tells who said what."""
    row, client = show(world.mine), world.client("operator")
    page = act(client, MISMATCHES, "acknowledge", row).content.decode()
    assert "why?" in page
    act(client, MISMATCHES, "acknowledge", row, reason="short")
    assert len(loud()) == 1
    page = act(client, MISMATCHES, "acknowledge", row, reason=REASON).content.decode()
    assert ALARM not in page
    assert loud() == []
    entry = Entry.objects.filter(action="break_glass.mismatch_acknowledged").latest("pk")
    assert entry.actor_id == str(world.people["operator"].pk)
    assert REASON not in entry.event
    assert "other hands" in client.get(f"{MISMATCHES}?state=acknowledged").content.decode()
    assert "other hands" in client.get(f"{MISMATCHES}{row.pk}/change/").content.decode()


def test_only_those_who_may(world: World) -> None:
    """Half staff, the owner and a stranger end no alarm."""
    row = show(world.mine)
    for role in ("half staff", "owner", "stranger", "anonymous"):
        act(world.client(role), MISMATCHES, "acknowledge", row, reason=REASON)
    row.refresh_from_db()
    assert row.acknowledged_at is None


def test_no_acknowledgement_without_its_entry(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1: the alarm stays."""
    row = show(world.mine)

    def full(**_: Any) -> None:
        raise RuntimeError("refused")

    monkeypatch.setattr(mismatches, "record", full)
    form = {"action": "acknowledge", "_selected_action": [row.pk], "reason": REASON}
    assert world.client("operator").post(MISMATCHES, form).status_code == 500
    row.refresh_from_db()
    assert row.acknowledged_at is None
