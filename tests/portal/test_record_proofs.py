"""Proofs for people: receipts, downloads, and whether the log continues a checkpoint that somebody kept."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import log, witnesses
from audit.alerts import loud
from audit.archives import archive
from audit.context import SYSTEM, Actor, bind
from audit.disputes import dispute
from audit.models import Checkpoint as StoredCheckpoint
from audit.models import Dispute, Entry, PersonalDatum, Witness
from audit.personal import Personal
from audit.services import record
from portal.rates import WINDOW
from portal.record import exporting, heads
from protocol.checkpoints import Checkpoint, cosign, opened, parse_hash_lines, signed
from protocol.enrolment import runtime_dns_name
from protocol.merkle import verify_consistency
from protocol.notes import COSIGNATURE_V1, NoteError, VerifierKey, vkey_of
from protocol.receipts import Receipt, ReceiptError, check
from tests.portal.conftest import TESTER, World
from tests.portal.routes import body
from tests.portal.test_record import API, PAGE_URL, page, write

pytestmark = pytest.mark.django_db
Sequence = Callable[[], int]


def receipt(world: World, entry: Entry, role: str = "owner") -> Receipt:
    """As the API gives it."""
    answer = world.client(role).get(f"{API}{entry.pk}/receipt/")
    assert answer.status_code == 200, answer.content
    return Receipt.parse(answer.content)


def downloaded(world: World, role: str = "owner", **asked: Any) -> list[Receipt]:
    answer = world.client(role).post(f"{API}receipts/", asked, content_type="application/json")
    assert answer.status_code == 200
    return [Receipt.parse(line) for line in body(answer).splitlines()]


def checkpoint(world: World) -> str:
    """The newest, as the API gives it."""
    return str(world.client("owner").get(f"{API}checkpoint/").json()["checkpoint"])


def asked_since(world: World, kept: str, role: str = "owner") -> Any:
    return world.client(role).post(f"{API}checkpoint/", {"checkpoint": kept}, content_type="application/json")


def disputes(world: World) -> list[object]:
    """What was raised beside the tenants' past ones: entries and rows."""
    past = [world.mine.dispute.pk, world.other.dispute.pk]
    entries = Entry.objects.filter(action="record.disputed").order_by("pk")[len(past) :]
    return [*entries, *Dispute.objects.exclude(pk__in=past)]


def forge(size: int, root: bytes) -> str:
    """A checkpoint that whoever has stolen the log's key could sign."""
    return signed(Checkpoint(log.vkey().name, size, root), settings.LOG_KEY, log.vkey().name)


@pytest.mark.parametrize("role", ["owner", "member", "operator"])
def test_a_receipt_proves_the_entry(world: World, sequence: Sequence, role: str) -> None:
    """By the log's public key alone, and for no other words."""
    entry = write(world.mine, kind="restart")
    sequence()
    found = receipt(world, entry, role)
    checked = check(found, log.vkey())
    assert checked.event["data"] == {"kind": "restart"}
    assert checked.event["tenant"] == str(world.mine.tenant.pk)
    with pytest.raises(ReceiptError):
        check(replace(found, event=found.event.replace("restart", "rebuild")), log.vkey())


def test_an_entry_without_a_place_has_no_receipt_yet(world: World, sequence: Sequence) -> None:
    """It says when to come again; then there is one."""
    sequence()
    entry = write(world.mine, kind="restart")
    client = world.client("owner")
    answer = client.get(f"{API}{entry.pk}/receipt/")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_in_the_log_yet")
    shown = client.get(f"{PAGE_URL}{entry.pk}/receipt/", follow=True)
    assert "Try again in some seconds" in shown.content.decode()
    assert ">Soon<" in shown.content.decode()
    sequence()
    assert client.get(f"{API}{entry.pk}/receipt/").status_code == 200
    assert ">Soon<" not in page(world, f"{PAGE_URL}{entry.pk}/")


@pytest.mark.parametrize("role", ["owner", "member", "half staff"])
def test_nobody_gets_another_tenants_receipt(world: World, sequence: Sequence, role: str) -> None:
    """By no route: not under their own tenant's address, nor under the other's, nor in a download."""
    theirs = write(world.other, kind="restart")
    sequence()
    client = world.client(role)
    for slug in ("acme", "zebra"):
        assert client.get(f"/t/{slug}/record/{theirs.pk}/receipt/").status_code == 404
        assert client.get(f"/api/v1/tenants/{slug}/record/{theirs.pk}/receipt/").status_code == 404
    tenants = {json.loads(one.event)["tenant"] for one in downloaded(world, role)}
    assert tenants == {str(world.mine.tenant.pk)}


def test_the_file_is_verified_without_us(world: World, sequence: Sequence, tmp_path: Path) -> None:
    """The page's three commands, as another process."""
    entry = write(world.mine, kind="restart")
    sequence()
    client = world.client("owner")
    old = client.get(f"{PAGE_URL}download/")
    write(world.mine, kind="stop")
    sequence()
    new = client.get(f"{PAGE_URL}download/")
    sizes = [opened(one.content, log.vkey()).size for one in (old, new)]
    files = {
        "receipt": client.get(f"{PAGE_URL}{entry.pk}/receipt/"),
        "old": old,
        "new": new,
        "proof": client.get(f"{PAGE_URL}download/?old={sizes[0]}&size={sizes[1]}"),
        "export": client.post(f"{PAGE_URL}export/"),
    }
    for name, answer in files.items():
        assert "attachment" in answer["Content-Disposition"]
        (tmp_path / name).write_bytes(body(answer))
    for words in (["receipt", "receipt"], ["checkpoints", "old", "new", "proof"], ["export", "export"]):
        command = [sys.executable, "-m", "protocol.verify", words[0], "--key", str(log.vkey())]
        done = subprocess.run(
            [*command, *(str(tmp_path / name) for name in words[1:])],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout[:9]) == (0, "verified:"), done.stderr


def test_a_download_holds_every_entry_once(world: World, sequence: Sequence) -> None:
    """The oldest first, all proved in one checkpoint."""
    for _ in range(5):
        write(world.mine, "secret.put", name="N", version=1)
    sequence()
    waiting = write(world.mine, kind="stop")
    found = downloaded(world)
    checked = [check(one, log.vkey()) for one in found]
    expected = Entry.objects.filter(tenant_id=world.mine.tenant.pk, pk__lt=waiting.pk).order_by("pk")
    assert [one.event for one in found] == list(expected.values_list("event", flat=True))
    assert len({one.proof.note for one in found}) == 1
    assert [one.index for one in checked] == sorted(one.index for one in checked)
    assert len(downloaded(world, topic="secrets", until="2099-01-01")) >= 5
    assert {json.loads(one.event)["action"] for one in downloaded(world, topic="secrets")} == {
        "secret.put",
        "tenant_key.made",
    }


def test_a_long_record_comes_in_parts(
    world: World, sequence: Sequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says where the next begins; together they are the whole."""
    monkeypatch.setattr(exporting, "MAX_RECEIPTS", 4)
    monkeypatch.setattr(exporting, "PER_MINUTE", 1000)
    sequence()
    total = Entry.objects.filter(tenant_id=world.mine.tenant.pk).count()
    assert total > 8
    client, events = world.client("owner"), []
    after: str | None = ""
    while after is not None:
        asked = {"after": after} if after else {}
        answer = client.post(f"{API}receipts/", asked, content_type="application/json")
        part = [Receipt.parse(line).event for line in body(answer).splitlines()]
        assert 0 < len(part) <= 4
        events += part
        after = answer.headers.get("Portal-Next")
    assert len(events) == len(set(events)) == total


def test_a_download_is_on_record_before_its_first_byte(world: World, sequence: Sequence) -> None:
    sequence()
    client = world.client("member")
    before = Entry.objects.count()
    answer = client.post(f"{PAGE_URL}export/", {"topic": "secrets"})
    entry = Entry.objects.order_by("-pk")[0]
    assert Entry.objects.count() == before + 1
    assert (entry.action, entry.tenant_id) == ("record.exported", world.mine.tenant.pk)
    assert entry.actor_id == str(world.people["member"].pk)
    assert json.loads(entry.event)["data"]["asked"] == "topic=secrets"
    assert body(answer)


def test_no_entry_no_download(world: World, sequence: Sequence, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it cannot be put on record, nothing is sent."""
    sequence()

    def fails(**_given: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(exporting, "record", fails)
    assert world.client("owner").post(f"{PAGE_URL}export/").status_code == 500


def test_downloads_are_bounded(world: World, sequence: Sequence) -> None:
    """Ten a minute, of all people of the tenant together; another tenant's go on."""
    sequence()
    for number in range(exporting.PER_MINUTE):
        assert downloaded(world, "owner" if number % 2 else "member")
    answer = world.client("owner").post(f"{API}receipts/", {}, content_type="application/json")
    assert answer.status_code == 429
    # At the worst all ten came as a minute began: its rest, and a tenth of the next.
    assert 0 < int(answer["Retry-After"]) <= WINDOW + WINDOW / exporting.PER_MINUTE
    refused = world.client("owner").post(f"{PAGE_URL}export/", follow=True)
    assert "10 downloads a minute are the most" in refused.content.decode()
    other = world.client("operator").post(
        "/api/v1/tenants/zebra/record/receipts/", {}, content_type="application/json"
    )
    assert other.status_code == 200


def test_a_download_reads_few_tiles(world: World, sequence: Sequence) -> None:
    """The number of queries does not grow with the entries."""
    counts = []
    for _ in range(2):
        for _ in range(20):
            write(world.mine, kind="stop")
        sequence()
        with CaptureQueriesContext(connection) as queries:
            assert len(downloaded(world)) > 20
        counts.append(len(queries))
    assert counts[1] <= counts[0] + 1


def personal(world: World, who: str, address: str) -> Entry:
    """An entry of somebody's, from somewhere, with a reason."""
    with bind(address=address), transaction.atomic():
        return record(
            action="operation.requested",
            actor=Actor.of(world.people[who]),
            tenant_id=world.mine.tenant.pk,
            data={"kind": "stop"},
            personal={"reason": Personal(f"tenant:{world.mine.tenant.pk}", "reason", "It was too loud.")},
        )


@pytest.mark.parametrize(
    ("reader", "actor", "kinds"),
    [
        ("owner", "owner", {"username", "address", "reason"}),
        ("owner", "member", {"username", "address", "reason"}),
        ("member", "member", {"username", "address", "reason"}),
        ("member", "owner", {"username", "reason"}),
        ("owner", "operator", {"reason"}),
        ("member", "superuser", {"reason"}),
        ("owner", "stranger", {"reason"}),
        ("operator", "member", {"username", "reason"}),
    ],
)
def test_what_stands_behind_the_commitments(
    world: World, sequence: Sequence, reader: str, actor: str, kinds: set[str]
) -> None:
    """Receipts, downloads and pages open what their reader may see, and it checks out; staff stay unnamed."""
    entry = personal(world, actor, "192.0.2.77")
    sequence()
    found = receipt(world, entry, reader)
    assert {one.kind for one in check(found, log.vkey()).personal} == kinds
    mine = [one for one in downloaded(world, reader) if one.event == entry.event]
    assert {one.kind for one in mine[0].personal} == kinds
    shown = page(world, f"{PAGE_URL}{entry.pk}/", reader)
    assert ("192.0.2.77" in shown) == ("address" in kinds)
    assert "It was too loud." in shown
    if "username" not in kinds:
        assert (
            world.people[actor].username not in shown.replace("operator</span>", "").partition("</header>")[2]
        )


def test_a_value_that_was_put_in_place_of_another_is_not_shown(world: World, sequence: Sequence) -> None:
    """Nowhere as what was recorded; and a receipt without it still proves the entry."""
    entry = personal(world, "member", "192.0.2.77")
    sequence()
    forge_value(entry, "reason", "It was forged.")
    found = check(receipt(world, entry), log.vkey())
    assert {one.kind for one in found.personal} == {"username", "address"}
    (mine,) = [one for one in downloaded(world) if one.event == entry.event]
    assert {one.kind for one in check(mine, log.vkey()).personal} == {"username", "address"}
    answers = [
        world.client("owner").get(f"{PAGE_URL}{entry.pk}/"),
        world.client("superuser").post(f"/admin/audit/entry/{entry.pk}/personal/"),
        world.client("superuser").get("/admin/audit/personaldatum/"),
    ]
    for answer in answers:
        assert "It was forged." not in answer.content.decode()
        assert "Does not open" in answer.content.decode()


def forge_value(entry: Entry, role: str, value: str) -> None:
    """As whoever may insert and delete there can: the same commitment, and another value."""
    row = PersonalDatum.objects.get(commitment=json.loads(entry.event)["personal"][role])
    row.delete()
    row.value = value
    PersonalDatum.objects.bulk_create([row])


def test_the_log_continues_a_kept_checkpoint(world: World, sequence: Sequence) -> None:
    """With the proof, on the page and by the API, also for the very same checkpoint."""
    sequence()
    kept = checkpoint(world)
    for _ in range(3):
        answer = asked_since(world, kept).json()
        old, new = opened(kept, log.vkey()), opened(answer["checkpoint"], log.vkey())
        assert new.size == StoredCheckpoint.objects.order_by("-size")[0].size
        verify_consistency(old.size, new.size, parse_hash_lines(answer["proof"]), old.root, new.root)
        write(world.mine, kind="stop")
        sequence()
    shown = world.client("member").post(f"{PAGE_URL}checkpoint/", {"checkpoint": kept.replace("\n", "\r\n")})
    assert "It continues yours" in shown.content.decode()
    assert f"All {old.size} entries of your checkpoint" in shown.content.decode()


def test_a_fork_is_loud_and_on_record(world: World, sequence: Sequence) -> None:
    """A checkpoint with the log's own signature that this log does not continue: other roots, or too large."""
    sequence()
    size = StoredCheckpoint.objects.get().size
    for forged in (forge(size, b"\1" * 32), forge(size - 1, b"\2" * 32), forge(size + 50, b"\3" * 32)):
        before = Entry.objects.filter(action="record.disputed").count()
        answer = asked_since(world, forged, "member")
        assert (answer.status_code, answer.json()["code"]) == (409, "forked")
        entry = Entry.objects.filter(action="record.disputed").order_by("-pk")[0]
        assert Entry.objects.filter(action="record.disputed").count() == before + 1
        assert entry.tenant_id == world.mine.tenant.pk
        assert opened(json.loads(entry.event)["data"]["checkpoint"], log.vkey()) == opened(forged, log.vkey())
        shown = world.client("owner").post(f"{PAGE_URL}checkpoint/", {"checkpoint": forged}).content.decode()
        assert "THIS LOG DOES NOT CONTINUE THAT CHECKPOINT" in shown
        # Shown by two people: two entries, one piece of evidence, one alarm.
        told = Dispute.objects.get(root=opened(forged, log.vkey()).root, size=opened(forged, log.vkey()).size)
        assert opened(told.note, log.vkey()) == opened(forged, log.vkey())
    alarms = [alert for alert in loud() if alert.code == "record_disputed"]
    assert len(alarms) == 3
    assert world.mine.tenant.slug not in " ".join(alert.words for alert in alarms)


@pytest.mark.parametrize(
    "kept", ["", "x", "portal.localhost/log\n5\nAAAA\n", "x" * 70_000, "\0\n\n— x AAAA\n", "old 4\n\n"]
)
def test_what_is_no_checkpoint_of_this_log_disputes_nothing(
    world: World, sequence: Sequence, kept: str
) -> None:
    sequence()
    assert asked_since(world, kept).status_code in {400, 409}
    shown = world.client("owner").post(f"{PAGE_URL}checkpoint/", {"checkpoint": kept})
    assert "This is no checkpoint that this log has signed" in shown.content.decode()
    assert not disputes(world)


def test_another_keys_signature_disputes_nothing(world: World, sequence: Sequence) -> None:
    """Nobody without the log's key can raise the alarm, whatever they write."""
    sequence()
    name = log.vkey().name
    stranger = signed(Checkpoint(name, 3, b"\1" * 32), b"\7" * 32, name)
    elsewhere = signed(Checkpoint("elsewhere", 3, b"\1" * 32), settings.LOG_KEY, "elsewhere")
    for kept in (stranger, elsewhere):
        assert asked_since(world, kept).json()["code"] == "not_of_this_log"
    assert not disputes(world)
    with pytest.raises(NoteError):
        dispute(actor=TESTER, tenant_id=world.mine.tenant.pk, kept=stranger, here=9)
    assert loud() == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("old=1", 200),
        ("old=1&size=1", 409),
        ("old=999999", 409),
        ("old=0", 400),
        ("old=x", 400),
        ("old=1&size=999999", 409),
    ],
)
def test_consistency_by_size(world: World, sequence: Sequence, query: str, status: int) -> None:
    """Sizes that no checkpoint has are refused with what to give."""
    sequence()
    client = world.client("owner")
    assert client.get(f"{API}consistency/?{query}").status_code == status
    answer = client.get(f"{PAGE_URL}download/?{query}")
    assert answer.status_code == (200 if status == 200 else 302)


def test_before_the_first_checkpoint(world: World) -> None:
    """Pages say so; the API answers 409."""
    assert "The log has not signed anything yet." in page(world, f"{PAGE_URL}checkpoint/")
    client = world.client("owner")
    for url in ("checkpoint/", "consistency/", "consistency/?old=1"):
        assert client.get(API + url).json()["code"] == "no_checkpoint_yet"
    assert client.get(f"{PAGE_URL}download/", follow=True).status_code == 200
    assert client.post(f"{PAGE_URL}export/", follow=True).status_code == 200


def test_every_entry_shows_its_place(world: World, sequence: Sequence) -> None:
    write(world.mine, kind="stop")
    assert ">soon<" in page(world)
    sequence()
    shown = page(world)
    assert ">soon<" not in shown
    index = Entry.objects.filter(tenant_id=world.mine.tenant.pk).order_by("-pk")[0].leaf.index
    assert f"no.</span> {index}<" in shown


SEEDS = {"own": b"\1" * 32, "other": b"\2" * 32, "outside": b"\3" * 32}


def make_witness(world: World, whose: str) -> VerifierKey:
    """A witness of this seed: the tenant's machine, the other tenant's, or one outside."""
    place = {"own": world.mine, "other": world.other}.get(whose)
    name = runtime_dns_name(str(place.runtime.pk)) if place else "witness.example.org"
    key = vkey_of(name, SEEDS[whose], COSIGNATURE_V1)
    about: Any = {"target": str(place.runtime.pk)} if place else {"url": "https://witness.example.org/"}
    Witness.objects.filter(target=about.get("target", ""), retired_at=None).update(retired_at=timezone.now())
    witnesses.witness_register(actor=SYSTEM, vkey=str(key), **about)
    return key


def witness_newest(world: World, whose: str) -> StoredCheckpoint:
    """That witness signs the newest head."""
    head = StoredCheckpoint.objects.order_by("-size")[0]
    place = {"own": world.mine, "other": world.other}.get(whose)
    target = str(place.runtime.pk) if place else ""
    witness = Witness.objects.get(target=target, retired_at=None)
    witnesses.cosigned(witness, head, cosign(head.note, witness.name, SEEDS[whose], int(time.time())))
    return head


def test_the_tenants_own_machine_vouches_for_the_receipt(world: World, sequence: Sequence) -> None:
    """The newest head that it has signed, rather than a newer one that it has not; the page says so."""
    own, outside = make_witness(world, "own"), make_witness(world, "outside")
    entry = write(world.mine, kind="restart")
    sequence()
    head = witness_newest(world, "own")
    witness_newest(world, "outside")
    write(world.mine, kind="stop")
    sequence()
    assert check(receipt(world, entry), log.vkey(), [own, outside]).size == head.size
    shown = page(world, f"{PAGE_URL}{entry.pk}/")
    assert "Witnessed by your machine" in shown
    assert "Your own machine" in shown
    assert "witness.example.org" in shown
    told = world.client("owner").get(f"{API}checkpoint/").json()
    assert [(one["name"], one["own"]) for one in told["witnesses"]] == [
        (own.name, True),
        (outside.name, False),
    ]


def test_a_newer_entry_is_proved_by_the_log_alone_until_then(world: World, sequence: Sequence) -> None:
    own = make_witness(world, "own")
    sequence()
    witness_newest(world, "own")
    entry = write(world.mine, kind="restart")
    sequence()
    with pytest.raises(ReceiptError):
        check(receipt(world, entry), log.vkey(), [own])
    assert check(receipt(world, entry), log.vkey()).event["data"] == {"kind": "restart"}
    assert ">Signed by the log<" in page(world, f"{PAGE_URL}{entry.pk}/")


def test_a_checkpoint_newer_than_the_witnessed_one_disputes_nothing(world: World, sequence: Sequence) -> None:
    """Witnesses lag behind; that is no fork."""
    make_witness(world, "own")
    sequence()
    witness_newest(world, "own")
    write(world.mine, kind="restart")
    sequence()
    kept = StoredCheckpoint.objects.order_by("-size")[0]
    answer = asked_since(world, kept.note)
    assert (answer.status_code, answer.json()["size"]) == (200, kept.size)
    assert world.client("owner").get(f"{API}consistency/?old={kept.size}").json()["size"] == kept.size


@pytest.mark.parametrize("role", ["owner", "member", "half staff"])
def test_other_tenants_machines_are_not_named(world: World, sequence: Sequence, role: str) -> None:
    """They witness everybody's log; but who is there is not this tenant's business."""
    make_witness(world, "other")
    entry = write(world.mine, kind="restart")
    sequence()
    witness_newest(world, "other")
    client = world.client(role)
    answers = [
        client.get(url) for url in (f"{PAGE_URL}{entry.pk}/", f"{PAGE_URL}checkpoint/", f"{API}checkpoint/")
    ]
    answers += [client.get(f"{API}{entry.pk}/receipt/"), client.post(f"{PAGE_URL}export/")]
    for answer in answers:
        assert answer.status_code == 200
        assert str(world.other.runtime.pk) not in body(answer).decode()


def test_a_witness_that_has_stopped_hides_nothing(
    world: World, sequence: Sequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downloads hold all the same, and checkpoint and proofs go on; while it signs, what it has signed is shown."""
    make_witness(world, "outside")
    sequence()
    old = witness_newest(world, "outside")
    late = write(world.mine, kind="restart")
    sequence()
    assert opened(checkpoint(world), log.vkey()).size == old.size  # it will sign the next one in seconds
    assert late.event in {one.event for one in downloaded(world)}
    monkeypatch.setattr(heads, "PATIENCE", timedelta())
    place = Entry.objects.get(pk=late.pk).leaf.index
    client = world.client("owner")
    assert opened(checkpoint(world), log.vkey()).size > place
    assert client.get(f"{API}consistency/?old={old.size}").json()["size"] > place
    assert opened(client.get(f"{PAGE_URL}download/").content.decode(), log.vkey()).size > place
    assert client.get(f"{PAGE_URL}checkpoint/").context["head"].size > place


def test_a_download_prefers_a_signed_head_that_holds_all_of_it(world: World, sequence: Sequence) -> None:
    """Later entries, which were not asked for, do not matter."""
    make_witness(world, "outside")
    write(world.mine, "secret.put", name="N", version=1)
    sequence()
    old = witness_newest(world, "outside")
    write(world.mine, kind="restart")
    sequence()
    assert {opened(one.proof.note, log.vkey()).size for one in downloaded(world, topic="secrets")} == {
        old.size
    }
    assert {opened(one.proof.note, log.vkey()).size > old.size for one in downloaded(world)} == {True}


def test_a_retired_witness_vouches_no_more(world: World, sequence: Sequence) -> None:
    """What it signed stays under that head; a newer head is not passed over for it."""
    make_witness(world, "outside")
    sequence()
    old = witness_newest(world, "outside")
    witness = Witness.objects.get(url__gt="", retired_at=None)
    witnesses.witness_retire(actor=SYSTEM, witness=witness, reason="It has moved away.")
    sequence()
    assert opened(checkpoint(world), log.vkey()).size > old.size


def test_archived_entries_are_still_listed(world: World, sequence: Sequence, tmp_path: Path) -> None:
    """Who, when and what stay; the words are elsewhere, and nobody is given a proof of nothing."""
    old = personal(world, "member", "192.0.2.77")
    for _ in range(256):
        write(world.mine, kind="stop")
    sequence()
    archive(actor=SYSTEM, before=timezone.now() + timedelta(days=1), folder=tmp_path)
    assert Entry.objects.get(pk=old.pk).event == ""
    client = world.client("owner")
    row = client.get(f"{API}{old.pk}/").json()
    assert (row["who"], row["what"], row["event"]) == ("member", "Asked to …", None)
    shown = page(world, f"{PAGE_URL}{old.pk}/")
    assert ">Archived<" in shown
    assert "192.0.2.77" not in shown
    assert client.get(f"{API}{old.pk}/receipt/").json()["code"] == "archived"
    assert client.get(f"{PAGE_URL}{old.pk}/receipt/").status_code == 302
    assert client.get(f"{API}?before={old.pk + 2}").status_code == 200
    left = [check(one, log.vkey()).event for one in downloaded(world)]
    assert 0 < len(left) < 256
