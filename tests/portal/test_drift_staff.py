"""Drift on the staff's pages: red on the front, listed with what follows, released with a typed reason."""

import pytest
from django.utils import timezone

from provisioning.drift.findings import HOST_KINDS, KINDS, finding
from provisioning.drift.records import keep
from provisioning.models import DriftFinding, Host, Operation, Runtime
from tests.portal.conftest import Kind, Phase, World

pytestmark = pytest.mark.django_db
LIST = "/admin/provisioning/driftfinding/"
RUNTIMES = "/admin/provisioning/runtime/"


def set_aside(world: World) -> Runtime:
    runtime = world.mine.runtime
    Runtime.objects.filter(pk=runtime.pk).update(phase=Phase.QUARANTINED, power="paused")
    keep(Host.objects.get(), runtime, [finding("disk", "disk[vdz]: added (now)")])
    return runtime


def test_a_quarantine_stands_red_on_the_front_page(world: World) -> None:
    """With what is wrong and where; a host's own trouble beside it; nothing of other people's tenants."""
    set_aside(world)
    keep(Host.objects.get(), None, [finding("bridge_rules_off")])
    page = world.client("operator").get("/admin/").content.decode()
    assert "Acme</a> is in quarantine" in page
    assert "A disk is not as it was defined." in page
    assert "disk[vdz]: added (now)" in page
    assert "br_netfilter" in page
    half = world.client("half staff").get("/admin/").content.decode()
    assert "of acme" not in half, "the finding that is over is not shown"
    assert "of zebra" not in half


def test_notes_are_not_on_the_front_page(world: World) -> None:
    """What nobody has to do anything about is in the list only."""
    keep(Host.objects.get(), world.mine.runtime, [finding("machine_outdated", "now")])
    client = world.client("operator")
    assert "as it was defined before" not in client.get("/admin/").content.decode()
    assert "as it was defined before" in client.get(LIST).content.decode()


def test_the_list_shows_open_findings_first_and_the_rest_on_demand(world: World) -> None:
    set_aside(world)
    client = world.client("operator")
    page = client.get(LIST).content.decode()
    assert "disk[vdz]" in page
    assert "set aside" in page
    assert "of acme" not in page
    assert "of acme" in client.get(f"{LIST}?state=cleared").content.decode()
    assert "disk[vdz]" not in client.get(f"{LIST}?state=cleared").content.decode()
    everything = client.get(f"{LIST}?state=all").content.decode()
    assert "of acme" in everything
    assert "disk[vdz]" in everything


def test_a_finding_changes_by_nobodys_hand(world: World) -> None:
    """No form, no bulk deletion."""
    client = world.client("superuser")
    row = DriftFinding.objects.filter(runtime=world.mine.runtime)[0]
    for url in (f"{LIST}add/", f"{LIST}{row.pk}/delete/"):
        assert client.get(url).status_code == 403
    client.post(f"{LIST}{row.pk}/change/", {"code": "x"})
    client.post(LIST, {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"})
    assert DriftFinding.objects.get(pk=row.pk).code == row.code


def test_a_release_asks_for_a_reason_beside_what_is_wrong(world: World) -> None:
    """And says what it does: nothing is lost, so its button is not that of a deletion."""
    runtime = set_aside(world)
    client = world.client("operator")
    chosen = {"action": "request_release", "_selected_action": [str(runtime.pk)]}
    page = client.post(RUNTIMES, chosen).content.decode()
    assert "disk[vdz]: added (now)" in page
    assert "The data volume is kept" in page
    assert "destroyed" not in page
    assert 'class="destroy"' not in page
    assert client.post(RUNTIMES, {**chosen, "reason": "short"}).status_code == 200
    assert not Operation.objects.filter(kind=Kind.RELEASE).exists()
    client.post(RUNTIMES, {**chosen, "reason": "The disk was mine, I am sorry."})
    asked = Operation.objects.get(kind=Kind.RELEASE)
    assert (asked.requested_by, asked.reason) == (world.people["operator"], "The disk was mine, I am sorry.")


def test_every_kind_has_words_and_a_code_that_fits(world: World) -> None:
    """Each row of the table can be kept and shown."""
    host = Host.objects.get()
    keep(host, world.mine.runtime, [finding(code) for code in KINDS])
    keep(host, None, [finding(code) for code in HOST_KINDS])
    page = world.client("operator").get(LIST).content.decode()
    for kind in (*KINDS.values(), *HOST_KINDS.values()):
        assert kind.words.replace("'", "&#x27;") in page


def test_what_somebody_wrote_into_a_definition_breaks_nothing(world: World) -> None:
    """Markup, control characters, other alphabets, and far too much of it."""
    given = "<script>alert(1)</script>\x00\ud800 é\n" * 40
    keep(Host.objects.get(), world.mine.runtime, [finding("device", given)])
    page = world.client("operator").get(LIST).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    row = DriftFinding.objects.get(code="device")
    assert len(row.detail) == 300
    assert row.detail.isascii()


def test_many_findings_are_bounded(world: World) -> None:
    """Somebody who adds a thousand devices fills neither the table nor the record."""
    keep(Host.objects.get(), world.mine.runtime, [finding("device", f"x{n}") for n in range(1000)])
    assert DriftFinding.objects.filter(code="device", cleared_at=None).count() == 50
    assert DriftFinding.objects.filter(seen_at__gt=timezone.now()).count() == 0
