"""Witnesses on the staff's pages: who signed what, a refusal on every page until somebody has looked into it."""

import time
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from audit import proofs, triggers, witnesses
from audit.alerts import alerts, loud
from audit.models import (
    Checkpoint,
    Cosignature,
    Entry,
    PersonalDatum,
    RefusalAcknowledgement,
    SequencerFence,
    Witness,
    WitnessRefusal,
)
from protocol.checkpoints import cosign
from protocol.notes import COSIGNATURE_V1, ED25519, new_key
from tests.portal.conftest import TESTER, World

pytestmark = pytest.mark.django_db
WITNESSES = "/admin/audit/witness/"
REFUSALS = "/admin/audit/witnessrefusal/"
ALARM = "A witness refuses to sign the audit record"
REASON = "The backup of Monday was restored, as agreed."


def checkpoint(size: int, age: timedelta = timedelta()) -> Checkpoint:
    return Checkpoint.objects.create(size=size, root=bytes(32), note=f"note {size}", at=timezone.now() - age)


def sign(witness: Witness, row: Checkpoint) -> None:
    Cosignature.objects.create(witness=witness, checkpoint=row, line="a line\n", signed_at=timezone.now())


def refuse(world: World, reason: str = "forked") -> WitnessRefusal:
    assert witnesses.refused(world.mine.witness, checkpoint(9), reason, 9)
    return WitnessRefusal.objects.order_by("-pk")[0]


def act(client: Client, url: str, action: str, *rows: Any, **more: str) -> Any:
    return client.post(
        url, {"action": action, "_selected_action": [row.pk for row in rows], **more}, follow=True
    )


def test_who_signed_what(world: World) -> None:
    """The newest size of each, when, and how far it is behind the log."""
    sign(world.mine.witness, checkpoint(40))
    sign(world.mine.witness, checkpoint(50))
    checkpoint(53)
    page = world.client("operator").get(WITNESSES).content.decode()
    assert world.mine.witness.name in page
    assert "50 entries" in page
    assert '<td class="field-behind">3</td>' in page
    assert "nothing yet" in page, "the other one"


def signed_by_all(world: World) -> Entry:
    """An entry of the tenant's, in a head that both machines and a witness outside have signed."""
    head = proofs.latest()
    assert head is not None
    seed, vkey = new_key("witness.example/one", COSIGNATURE_V1)
    outside = witnesses.witness_register(actor=TESTER, vkey=str(vkey), url="https://witness.example/")
    seeds = {
        outside: seed,
        **{place.witness: sha256(place.tenant.slug.encode()).digest() for place in (world.mine, world.other)},
    }
    for witness, secret in seeds.items():
        witnesses.cosigned(witness, head, cosign(head.note, witness.name, secret, int(time.time())))
    return Entry.objects.filter(tenant_id=world.mine.tenant.pk, leaf__index__lt=head.size)[0]


@pytest.mark.parametrize(
    ("role", "url", "own"),
    [
        ("stranger", "/log/checkpoint", False),
        ("owner", "/log/checkpoint", False),
        ("half staff", "/log/checkpoint", False),
        ("half staff", "/admin/audit/entry/{entry}/change/", True),
        ("half staff", "/admin/audit/entry/{entry}/receipt/", True),
        ("operator", "/admin/audit/entry/{entry}/receipt/", True),
        ("half staff", WITNESSES, True),
        ("half staff", REFUSALS, False),
        ("owner", "/t/acme/record/checkpoint/", True),
        ("owner", "/t/acme/record/{entry}/receipt/", True),
    ],
)
def test_another_tenants_machine_is_not_named(
    world: World, sequence: Callable[[], int], role: str, url: str, own: bool
) -> None:
    """Its name is its runtime's id. Witnesses outside are everybody's, and one's own machine is one's own."""
    sequence()
    entry = signed_by_all(world)
    answer = world.client(role).get(url.format(entry=entry.pk))
    assert answer.status_code == 200
    content = answer.content.decode()
    assert world.other.witness.name not in content
    assert str(world.other.runtime.pk) not in content
    if url != REFUSALS:
        assert "witness.example/one" in content
        assert (world.mine.witness.name in content) == own


def test_a_witness_page_lists_its_signatures(world: World) -> None:
    sign(world.mine.witness, checkpoint(1234))
    page = world.client("operator").get(f"{WITNESSES}{world.mine.witness.pk}/change/").content.decode()
    assert "Newest signatures" in page
    assert "<td>1234</td>" in page


@pytest.mark.parametrize("url", ["/admin/", "/admin/audit/entry/", "/admin/tenants/tenant/", WITNESSES])
def test_a_refusal_is_on_every_page(world: World, url: str) -> None:
    """Red, above everything, for everybody on the staff; it names no tenant's machine to those who may not know it."""
    client = world.client("operator")
    assert ALARM not in client.get(url).content.decode()
    witnesses.refused(world.other.witness, checkpoint(9), "forked", 9)
    for role in ("operator", "half staff", "superuser"):
        page = world.client(role).get(url).content.decode()
        assert ALARM in page
        assert "record-alarm" in page
    half = world.client("half staff").get(url).content.decode()
    assert world.other.witness.name not in half


def test_it_is_on_no_page_of_a_tenant(world: World) -> None:
    """What it may mean is for staff to find out first; tenants see what their own machine holds."""
    refuse(world)
    assert ALARM not in world.client("owner").get("/t/acme/").content.decode()


def test_acknowledging_asks_for_a_reason(world: World) -> None:
    """Nothing without one; with one the alarm ends, the reason is in the record, and the refusal stays listed."""
    refusal, client = refuse(world), world.client("operator")
    page = act(client, REFUSALS, "acknowledge", refusal).content.decode()
    assert "why?" in page
    assert "audit_verify" in page
    act(client, REFUSALS, "acknowledge", refusal, reason="short")
    assert not RefusalAcknowledgement.objects.filter(refusal=refusal).exists()
    page = act(client, REFUSALS, "acknowledge", refusal, reason=REASON).content.decode()
    assert ALARM not in page
    assert loud() == []
    (entry,) = Entry.objects.filter(
        action="witness.refusal_acknowledged", actor_id=str(world.people["operator"].pk)
    )
    why = RefusalAcknowledgement.objects.get(refusal=refusal).why
    assert (why in entry.event, REASON in entry.event) == (True, False)
    listed = client.get(f"{REFUSALS}?state=acknowledged").content.decode()
    assert "it holds other entries" in listed
    assert REASON in listed
    PersonalDatum.objects.filter(commitment=why).delete()
    assert "(erased)" in client.get(f"{REFUSALS}?state=acknowledged").content.decode()


def test_only_those_who_may_acknowledge(world: World) -> None:
    """Half staff look; the action is not theirs."""
    refusal = refuse(world)
    act(world.client("half staff"), REFUSALS, "acknowledge", refusal, reason=REASON)
    assert not RefusalAcknowledgement.objects.filter(refusal=refusal).exists()


def test_an_acknowledgement_without_its_entry(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1: the alarm stays."""
    refusal = refuse(world)
    monkeypatch.setattr(witnesses, "record", lambda **_: (_ for _ in ()).throw(RuntimeError("refused")))
    assert (
        world.client("operator")
        .post(REFUSALS, {"action": "acknowledge", "_selected_action": [refusal.pk], "reason": REASON})
        .status_code
        == 500
    )
    assert not RefusalAcknowledgement.objects.filter(refusal=refusal).exists()


def test_an_outside_witness_is_added_and_retired(world: World) -> None:
    """By URL and key, through the service; the page says which key of ours its operator needs."""
    client = world.client("operator")
    assert "portal.localhost/log/" in client.get(f"{WITNESSES}add/").content.decode()
    vkey = str(new_key("witness.example/one", COSIGNATURE_V1)[1])
    done = client.post(f"{WITNESSES}add/", {"url": "https://witness.example/", "vkey": vkey})
    assert done.status_code == 302, done.content.decode()
    witness = Witness.objects.get(name="witness.example/one")
    assert (witness.url, witness.target, witness.tenant_id) == ("https://witness.example/", "", None)
    act(client, WITNESSES, "retire", witness)
    assert Witness.objects.get(pk=witness.pk).retired_at is None
    act(client, WITNESSES, "retire", witness, reason="It has been switched off.")
    assert Witness.objects.get(pk=witness.pk).retired_at is not None
    assert Entry.objects.filter(action="witness.retired").count() == 1


@pytest.mark.parametrize(
    ("url", "vkey", "words"),
    [
        ("https://witness.example/", "nonsense", "name+key id+base64"),
        ("https://witness.example/", str(new_key("w.example", ED25519)[1]), "cosignature/v1"),
        ("http://witness.example/", "", "https://"),
        ("", "", "This field is required"),
        ("https://user:pass@witness.example/", "", "no user"),
    ],
    ids=[
        "no key",
        "a log's key",
        "not encrypted",
        "empty",
        "with a user",
    ],  # the key is another in each process
)
def test_what_is_no_witness(world: World, url: str, vkey: str, words: str) -> None:
    """Each refusal beside its field, with what to change; nothing is registered."""
    before = Witness.objects.count()
    given = {"url": url, "vkey": vkey or str(new_key("w.example", COSIGNATURE_V1)[1])}
    page = world.client("operator").post(f"{WITNESSES}add/", given).content.decode()
    assert words.replace("'", "&#x27;") in page
    assert Witness.objects.count() == before


def test_the_same_key_twice(world: World) -> None:
    vkey = str(new_key("w.example", COSIGNATURE_V1)[1])
    witnesses.witness_register(actor=TESTER, vkey=vkey, url="https://w.example/")
    page = world.client("operator").post(f"{WITNESSES}add/", {"url": "https://w.example/", "vkey": vkey})
    assert "already exists" in page.content.decode()


def test_lag_and_trouble_of_the_sequencer(world: World) -> None:
    """Old entries without a leaf; and what the sequencer found: loud."""
    assert [each.code for each in alerts()] == []
    later = timezone.now() + timedelta(seconds=90)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("audit.alerts.timezone.now", lambda: later)
        assert [(each.code, each.severity) for each in alerts()] == [("sequencer_lag", "alert")]
    SequencerFence.objects.update_or_create(
        pk=1, defaults={"trouble": "rolled_back", "trouble_words": "Less is there.", "trouble_at": later}
    )
    assert [(each.code, each.severity) for each in alerts()] == [("log_rolled_back", "loud")]
    assert "Less is there." in world.client("operator").get("/admin/tenants/plan/").content.decode()


def test_nobody_watches(world: World) -> None:
    """A checkpoint of ten minutes ago, and nobody has signed it or a later one."""
    checkpoint(5, timedelta(minutes=11))
    checkpoint(8, timedelta(minutes=1))
    assert [each.code for each in alerts()] == ["no_witness"]
    page = world.client("operator").get("/admin/").content.decode()
    assert "nobody watches the record" in page
    assert "record-alarm" not in page
    sign(world.mine.witness, Checkpoint.objects.get(size=8))
    assert alerts() == []


def test_an_outside_witness_that_is_silent(world: World) -> None:
    """The tenants' machines sign, and the one outside does not: somebody may keep it from being asked."""
    vkey = str(new_key("w.example", COSIGNATURE_V1)[1])
    outside = witnesses.witness_register(actor=TESTER, vkey=vkey, url="https://w.example/")
    old, new = checkpoint(5, timedelta(minutes=11)), checkpoint(8, timedelta(minutes=1))
    sign(world.mine.witness, new)
    assert alerts() == [], "it was added just now"
    triggers.remove(connection, "audit_witness")  # when it was added is not to be changed
    Witness.objects.filter(pk=outside.pk).update(added_at=timezone.now() - timedelta(hours=1))
    triggers.install(connection, "audit_witness")
    (alert,) = alerts()
    assert (alert.code, alert.severity, alert.about) == ("witness_silent", "alert", "w.example")
    assert alert.at == old.at
    sign(outside, old)
    assert alerts() == []
    witnesses.witness_retire(actor=TESTER, witness=outside, reason="It has been switched off.")
    assert alerts() == []


def test_a_retired_witness_does_not_count(world: World) -> None:
    old = checkpoint(5, timedelta(minutes=11))
    sign(world.mine.witness, old)
    assert alerts() == []
    witnesses.witness_retire(actor=TESTER, witness=world.mine.witness, reason="The machine is gone.")
    assert [each.code for each in alerts()] == ["no_witness"]


def test_none_is_added_without_its_entry(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1."""
    monkeypatch.setattr(witnesses, "record", lambda **_: (_ for _ in ()).throw(RuntimeError("refused")))
    vkey = str(new_key("w.example", COSIGNATURE_V1)[1])
    answer = world.client("operator").post(f"{WITNESSES}add/", {"url": "https://w.example/", "vkey": vkey})
    assert answer.status_code == 500
    assert not Witness.objects.filter(name="w.example").exists()
