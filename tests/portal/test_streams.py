"""Downloads keep a thread each: one of a person or tenant, two in a process, and every place is given back."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import caches

from audit.models import Entry
from portal import streams
from portal.streams import Busy, Stream, place_for
from tests.portal.conftest import World
from tests.portal.routes import body

STAFF = "/admin/audit/entry/export/"
API = "/api/v1/tenants/{}/record/receipts/"


def stream(who: str, parts: Iterator[str] | None = None) -> Stream[str]:
    with place_for(who) as place:
        return Stream(place, parts or iter(["a", "b"]))


def test_one_of_each_and_two_in_a_process() -> None:
    """The second of the same person, and the third of all, are told to wait."""
    first, second = stream("a"), stream("b")
    with pytest.raises(Busy, match="Others are downloading"):
        stream("c")
    second.close()
    with pytest.raises(Busy, match="on its way already"):
        stream("a")
    first.close()
    assert list(stream("a")) == ["a", "b"]


def test_another_process_counts_for_the_person() -> None:
    """The person's place is shared, the threads are not."""
    kept = stream("a")
    streams.forget()
    with pytest.raises(Busy, match="on its way already"):
        stream("a")
    kept.close()


def fails() -> Iterator[str]:
    yield "a"
    raise RuntimeError("a broken file")


def test_every_end_gives_the_place_back() -> None:
    """The last part, a failure, a close in the middle, an answer that is never sent, an error before it."""
    assert list(stream("a")) == ["a", "b"]
    with pytest.raises(RuntimeError):
        list(stream("a", fails()))
    begun = stream("a")
    next(begun)
    begun.close()
    begun.close()
    stream("a")
    with pytest.raises(ValueError, match="before"), place_for("a"):
        raise ValueError("before")
    assert list(stream("a")) == ["a", "b"]


def test_a_place_that_ran_out_is_not_taken_from_its_next_holder() -> None:
    """Who took nothing for long has lost it, and gives back nothing."""
    late = stream("a")
    caches["shared"].delete("stream:a")
    streams.forget()
    now = stream("a")
    late.close()
    with pytest.raises(Busy):
        stream("a")
    now.close()


def test_a_long_file_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said anew while parts go out."""
    kept = stream("a")
    caches["shared"].delete("stream:a")
    monkeypatch.setattr(streams, "RENEW_SECONDS", -1)
    next(kept)
    with pytest.raises(Busy):
        stream("a")
    kept.close()


@pytest.mark.django_db
@pytest.mark.parametrize(("role", "whole"), [("owner", False), ("operator", True)])
def test_a_second_download_waits_for_the_first(
    world: World, sequence: Callable[[], int], role: str, whole: bool
) -> None:
    """429 with a time, no entry of what was not sent; and after the end of the first it is there."""
    sequence()
    client = world.client(role)

    def ask() -> Any:
        if whole:
            return client.post(STAFF, {"form": "whole"})
        return client.post(API.format("acme"), {}, content_type="application/json")

    first = ask()
    before = Entry.objects.filter(action="record.exported").count()
    refused = ask()
    assert (refused.status_code, int(refused["Retry-After"])) == (429, streams.WAIT_SECONDS)
    assert "on its way already" in refused.content.decode()
    assert Entry.objects.filter(action="record.exported").count() == before
    assert body(first)
    assert ask().status_code == 200
