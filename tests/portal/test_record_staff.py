"""The record's pages for staff: search, tail, one entry with its proofs, downloads, and the log's own addresses."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import transaction
from django.http import StreamingHttpResponse
from django.test import Client
from django.utils import timezone

from audit import log, proofs
from audit.context import Actor, bind, command
from audit.models import Checkpoint, Entry
from audit.search import Found, search
from audit.services import record
from portal import log_views
from portal.staff_record import downloads, pages
from protocol.checkpoints import opened
from protocol.notes import Note
from protocol.receipts import Receipt, check
from protocol.tiles import split_tile, unbundle
from tests.completeness.broken import broken_record
from tests.portal.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "/admin/audit/entry/"
Sequence = Callable[[], int]


def write(action: str = "thing.done", **more: Any) -> Entry:
    with transaction.atomic():
        return record(action=action, **{"actor": command("test"), **more})


def shown(client: Client, **asked: Any) -> list[int]:
    """The entries on a page, in their order."""
    page = client.get(LIST, asked).content.decode()
    return [int(pk) for pk in re.findall(r'class="when"><a href="/admin/audit/entry/(\d+)/change/"', page)]


def streamed(response: Any) -> str:
    return b"".join(cast(Iterable[bytes], cast(StreamingHttpResponse, response).streaming_content)).decode()


def test_each_field_finds(world: World) -> None:
    """By name as by id; together they narrow."""
    operator, place = world.people["operator"], world.other
    with bind(request_id="r-77"):
        entry = write(
            actor=Actor.of(operator),
            tenant_id=place.tenant.pk,
            target=("shelf", "s 1"),
            data={"say": "Grüße"},
        )
    write(target=("shelf", "s 2"))
    client = world.client("operator")
    for asked in (
        {"actor": "operator", "action": "thing.done"},
        {"actor": f"user:{operator.pk}", "action": "thing"},
        {"tenant": "zebra", "q": "gruße"},
        {"tenant": str(place.tenant.pk), "target": "shelf"},
        {"target": "shelf:s 1"},
        {"target": "s 1"},
        {"request": "r-77"},
        {"since": "2020-01-01 00:00", "request": "r-77", "until": "2990-01-01 00:00"},
        {"since": "0001-01-01 00:00", "request": "r-77", "until": "9999-12-31 23:59"},
    ):
        assert shown(client, **asked) == [entry.pk], asked
    for asked in (
        {"actor": "nobody"},
        {"tenant": "nobody"},
        {"request": "r-7"},
        {"until": "2020-01-01 00:00"},
        {"q": "grüße x"},
    ):
        assert shown(client, **asked) == [], asked


def test_a_wrong_field_is_named_and_nothing_is_lost(world: World) -> None:
    """The page says what to give, and keeps what was typed."""
    client = world.client("operator")
    for asked, words in (
        ({"since": "yesterday", "q": "kept"}, "Enter a valid date/time."),
        ({"action": "not an action", "q": "kept"}, "Give an action such as tenant.created"),
        (
            {"since": "2026-01-02 00:00", "until": "2026-01-01 00:00", "q": "kept"},
            "Give a time after the first.",
        ),
        ({"before": "x", "q": "kept"}, "name an entry by its number"),
        ({"since": "0001-01-01T00:00+10:00", "q": "kept"}, "Give a time between the years 1 and 9999"),
        ({"until": "9999-12-31T23:59-10:00", "q": "kept"}, "Give a time between the years 1 and 9999"),
        ({"q": "kept\x00"}, "Null characters are not allowed."),
    ):
        response = client.get(LIST, asked)
        assert response.status_code == 400
        assert words in response.content.decode()
        assert "kept" in response.content.decode()


def test_pages_lead_on_and_back(world: World) -> None:
    """Every entry once on the way down; the way up leads to the newest."""
    for _ in range(120):
        write()
    client, seen, link = world.client("operator"), [], ""
    while True:
        page = client.get(LIST + link).content.decode()
        seen += re.findall(r"/admin/audit/entry/(\d+)/change/", page)
        found = re.search(r'rel="next" href="([^"]+)"', page)
        if not found:
            break
        link = found[1].replace("&amp;", "&")
    before = Entry.objects.exclude(action="record.viewed")  # which came of the first page, and after it
    assert seen == [str(pk) for pk in before.order_by("-pk").values_list("pk", flat=True)]
    back = re.search(r'rel="prev" href="([^"]+)"', page)
    assert back
    assert len(re.findall(r"/change/", client.get(LIST + back[1]).content.decode())) == 50


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"tenant": "zebra"},
        {"q": "acme zebra"},
        {"action": "tenant"},
        {"actor": "command"},
        {"target": "tenant"},
    ],
)
def test_half_staff_find_only_their_tenants(world: World, asked: dict[str, str]) -> None:
    """Whatever they ask for, here, in the tail and in an export."""
    client, other = world.client("half staff"), str(world.other.tenant.pk)
    theirs = set(Entry.objects.filter(tenant_id=world.mine.tenant.pk).values_list("pk", flat=True))
    assert set(shown(client, **asked)) <= theirs
    if not asked:
        assert shown(client) != []
    for url in (LIST, LIST + "tail/"):
        assert other not in client.get(url, {**asked, "from": "0"}).content.decode()


def test_an_export_of_half_staff_holds_only_their_tenants(world: World, sequence: Sequence) -> None:
    """The whole log is not for them."""
    sequence()
    client = world.client("half staff")
    lines = streamed(client.post(LIST + "export/", {"form": "receipts"})).splitlines()
    tenants = {json.loads(Receipt.parse(line).event)["tenant"] for line in lines}
    assert tenants == {str(world.mine.tenant.pk)}
    assert client.post(LIST + "export/", {"form": "whole"}).status_code == 403


def test_the_tail_follows_the_log_and_can_pause(world: World, sequence: Sequence) -> None:
    """What is in the tree and matches, each once; a paused tail asks no more."""
    client = world.client("operator")
    sequence()  # the sign-in is in it, so the very next leaf is ours
    page = client.get(LIST, {"follow": "1", "action": "thing"}).content.decode()
    ask = re.search(r'<tr id="tail" hx-get="([^"]+)"', page)
    assert ask
    url = ask[1].replace("&amp;", "&")
    assert "/change/" not in client.get(url).content.decode()
    first, _ = write(), write("other.done")
    assert "/change/" not in client.get(url).content.decode()  # committed, but not in the log yet
    sequence()
    rows = client.get(url).content.decode()
    assert re.findall(r"/admin/audit/entry/(\d+)/change/", rows) == [str(first.pk)]
    onward = re.search(r'<tr id="tail" hx-get="([^"]+)"', rows)
    assert onward
    assert "/change/" not in client.get(onward[1].replace("&amp;", "&")).content.decode()
    paused = client.get(onward[1].replace("&amp;", "&") + "&pause=1").content.decode()
    assert "hx-trigger" not in paused
    assert "Go on" in paused
    assert client.get(LIST + "tail/", {"from": "x"}).status_code == 400


def test_the_tail_begins_where_the_page_ends(
    world: World, sequence: Sequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What enters the log while the page is searched is not lost; what the page has shown does not come again."""
    client = world.client("operator")
    sequence()
    early, between = write(), []

    def slow(*given: Any) -> Found:
        found = search(*given)
        between.append(write().pk)
        sequence()
        return found

    monkeypatch.setattr(pages, "search", slow)
    page = client.get(LIST, {"follow": "1", "action": "thing"}).content.decode()
    assert re.findall(r"/admin/audit/entry/(\d+)/change/", page) == [str(early.pk)]
    followed = []
    for _ in range(2):
        ask = re.search(r'<tr id="tail" hx-get="([^"]+)"', page)
        assert ask
        page = client.get(ask[1].replace("&amp;", "&")).content.decode()
        followed += re.findall(r"/admin/audit/entry/(\d+)/change/", page)
    assert followed == [str(pk) for pk in between]
    for wrong in ("x", "1,", "²", ",".join(["1"] * 51)):
        assert client.get(LIST + "tail/", {"from": "0", "early": wrong}).status_code == 400


def test_one_entry_shows_its_event_and_its_place(world: World, sequence: Sequence) -> None:
    """Before the sequencer, and after: index, root, proof, and what it was since an older checkpoint."""
    entry = write(target=("shelf", "1"), data={"say": "hello"})
    client, url = world.client("operator"), f"{LIST}{entry.pk}/change/"
    assert "Not in a signed checkpoint yet" in client.get(url).content.decode()
    assert client.get(f"{LIST}{entry.pk}/receipt/").status_code == 409
    sequence()
    old = proofs.latest()
    for _ in range(20):
        write()
    sequence()
    new = proofs.latest()
    assert old is not None
    assert new is not None
    page = client.get(url, {"since": old.size}).content.decode()
    assert "&quot;say&quot;: &quot;hello&quot;" in page
    assert bytes(new.root).hex() in page
    assert f"begins with that of {old.size}" in page
    assert f"from 1 to {new.size}" in client.get(url, {"since": new.size + 1}).content.decode()
    assert "No checkpoint of so few" in client.get(url, {"since": 1}).content.decode()


def test_a_receipt_convinces_a_stranger(world: World, sequence: Sequence) -> None:
    """With the public key alone; it holds no personal data."""
    with bind(address="203.0.113.9"):
        entry = write(actor=Actor.of(world.people["owner"]))
    sequence()
    response = world.client("operator").get(f"{LIST}{entry.pk}/receipt/")
    checked = check(Receipt.parse(response.content), log.vkey())
    assert checked.event["action"] == "thing.done"
    assert b"203.0.113.9" not in response.content
    assert response["Content-Disposition"] == f'attachment; filename="entry-{entry.pk}.json"'


def test_personal_data_is_shown_on_record_only(world: World) -> None:
    """By permission, by POST, and with an entry; without the entry there is nothing to see."""
    with bind(address="203.0.113.9"):
        entry = write(actor=Actor.of(world.people["owner"]), tenant_id=world.mine.tenant.pk)
    half, url = world.client("half staff"), f"{LIST}{entry.pk}/personal/"
    world.people["half staff"].user_permissions.remove(
        *Permission.objects.filter(codename="view_personaldatum")
    )
    assert b"203.0.113.9" not in half.get(f"{LIST}{entry.pk}/change/").content
    assert half.post(url).status_code == 403
    assert not Entry.objects.filter(action="record.personal_opened").exists()
    page = world.client("superuser").post(url).content.decode()
    assert "203.0.113.9" in page
    noted = Entry.objects.get(action="record.personal_opened")
    assert (noted.target_id, noted.tenant_id) == (str(entry.pk), world.mine.tenant.pk)


def test_without_its_entry_no_personal_data_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is broken, so the answer is an error and holds nothing."""
    with bind(address="203.0.113.9"):
        entry = write(actor=Actor.of(world.people["owner"]))
    client = world.client("superuser")

    def broken(**kwargs: object) -> None:
        raise RuntimeError("the record is broken")

    monkeypatch.setattr("portal.staff_record.one.record", broken)
    response = client.post(f"{LIST}{entry.pk}/personal/")
    assert response.status_code == 500
    assert b"203.0.113.9" not in response.content


def test_an_export_is_on_record_before_its_first_byte(world: World, sequence: Sequence) -> None:
    """Who took what kind of export; and not what they typed, which may name people."""
    sequence()
    response = world.client("operator").post(LIST + "export/", {"form": "receipts", "actor": "owner-of-acme"})
    noted = Entry.objects.latest("pk")
    assert (noted.action, noted.actor_id) == ("record.exported", str(world.people["operator"].pk))
    assert "owner-of-acme" not in noted.event
    assert len(streamed(response).splitlines()) > 0


def test_without_its_entry_nothing_is_exported(
    world: World, sequence: Sequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is broken, so there is no file."""
    sequence()

    def broken(**kwargs: object) -> None:
        raise RuntimeError("the record is broken")

    monkeypatch.setattr(downloads, "record", broken)
    assert world.client("operator").post(LIST + "export/", {"form": "whole"}).status_code == 500


def test_exports_are_bounded(world: World, sequence: Sequence) -> None:
    """So many a minute; without a checkpoint none."""
    client = world.client("operator")
    assert client.post(LIST + "export/", {"form": "whole"}).status_code == 400
    sequence()
    answers = [
        client.post(LIST + "export/", {"form": "whole"}).status_code for _ in range(downloads.PER_MINUTE + 1)
    ]
    assert answers == [200] * downloads.PER_MINUTE + [429]


def test_the_log_has_its_c2sp_addresses(world: World, sequence: Sequence) -> None:
    """Checkpoint and hashes for whoever is signed in; events for operators of all tenants."""
    assert world.client("stranger").get("/log/checkpoint").status_code == 404
    for _ in range(300):
        write()
    sequence()
    head = Checkpoint.objects.get()
    client, partial = world.client("stranger"), head.size - 256
    note = Note.parse(client.get("/log/checkpoint").content.decode())
    assert opened(note, log.vkey()).size == head.size
    assert len(split_tile(client.get("/log/tile/0/000").content, 256)) == 256
    assert len(split_tile(client.get(f"/log/tile/0/001.p/{partial}").content, partial)) == partial
    for where in (
        "0/1",
        "0/00",
        "0/x000/000",
        "00/000",
        f"0/001.p/{partial + 1}",
        "0/001",
        "0/000.p/256",
        "0/000.p/0",
        "99/000",
        "entries/",
        "x",
        "0/²00",
    ):
        assert client.get(f"/log/tile/{where}").status_code == 404, where
    for role, status in (("stranger", 404), ("owner", 404), ("half staff", 404), ("operator", 200)):
        assert world.client(role).get("/log/tile/entries/000").status_code == status
    bundle = unbundle(world.client("operator").get(f"/log/tile/entries/001.p/{partial}").content)
    assert [json.loads(event)["action"] for event in bundle[-3:]] == ["thing.done"] * 3


BUNDLE = "/log/tile/entries/000.p/1"


def taken() -> list[tuple[str, str]]:
    found = Entry.objects.filter(action="record.exported").order_by("pk")
    return [(row.actor_id, json.loads(row.event)["data"]["form"]) for row in found]


def test_whoever_takes_bundles_of_entries_exports_the_log(world: World, sequence: Sequence) -> None:
    """One entry for all of ten minutes; another person's is another; refused ones and hashes are none."""
    sequence()
    for role, where in (("operator", BUNDLE), ("operator", BUNDLE), ("superuser", BUNDLE)):
        assert world.client(role).get(where).status_code == 200
    assert world.client("half staff").get(BUNDLE).status_code == 404
    assert world.client("owner").get("/log/tile/0/000.p/1").status_code == 200
    assert taken() == [(str(world.people[role].pk), "bundles") for role in ("operator", "superuser")]


def test_without_its_entry_there_is_no_bundle(world: World, sequence: Sequence) -> None:
    """Nothing is read; and what could not be recorded is not taken for what was."""
    sequence()
    client = world.client("operator")
    with broken_record():
        assert client.get(BUNDLE).status_code == 500
    assert client.get(BUNDLE).status_code == 200
    assert len(taken()) == 1


def test_bundles_are_bounded(world: World, sequence: Sequence, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many a minute for each person; hashes are free."""
    monkeypatch.setattr(log_views, "BUNDLES_PER_MINUTE", 2)
    sequence()
    client = world.client("operator")
    assert [client.get(BUNDLE).status_code for _ in range(2)] == [200, 200]
    refused = client.get(BUNDLE)
    assert (refused.status_code, 0 < int(refused["Retry-After"]) <= 60) == (429, True)
    assert client.get("/log/tile/0/000.p/1").status_code == 200
    assert world.client("superuser").get(BUNDLE).status_code == 200


def test_an_archived_entry_says_where_its_event_is(world: World, sequence: Sequence, tmp_path: Any) -> None:
    """The columns stay, the receipt does not; the page names the archive."""
    entry = write()
    for _ in range(300):
        write()
    sequence()
    call_command("audit_archive", before=timezone.now(), to=tmp_path)
    page = world.client("operator").get(f"{LIST}{entry.pk}/change/").content.decode()
    assert "entries-0-255" in page
    assert world.client("operator").get(f"{LIST}{entry.pk}/receipt/").status_code == 409
    assert "Personal data" not in page
