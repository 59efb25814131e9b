"""Files of the record for staff: a receipt, and exports that are on record before their first byte."""

from collections.abc import Iterator
from functools import partial
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from audit import log, proofs
from audit.context import Actor
from audit.exporting import MAX_ENTRIES, MAX_RECEIPTS, receipts, whole
from audit.models import Checkpoint, Entry, Segment
from audit.proofs import witnesses_about
from audit.services import record
from portal.rates import DOWNLOADS, RateExceeded, spend
from portal.staff_record.asked import SearchForm, scope_of

PER_MINUTE = 6
"""Downloads of one person: each keeps a thread of a web process busy."""


def receipt(entry: Entry) -> HttpResponseBase:
    """The entry with its proof, without personal data."""
    made = proofs.receipt(entry, named=witnesses_about(entry.tenant_id))
    if made is None:
        words = (
            "This entry is not in a signed checkpoint yet, or it has been archived. Try again in a moment."
        )
        return HttpResponse(words, status=409, content_type="text/plain")
    return _file(
        HttpResponse(made.to_json() + "\n", content_type="application/json"), f"entry-{entry.pk}.json"
    )


def export(request: HttpRequest) -> HttpResponseBase:
    """POST: ``form=whole`` for the whole log, else the search's entries as receipts."""
    form = SearchForm(request.POST, person=request.user)
    head = proofs.latest()
    if not form.is_valid() or head is None:
        words = "Correct the search first." if head else "There is no checkpoint yet. Start the sequencer."
        return HttpResponse(words, status=400, content_type="text/plain")
    complete = request.POST.get("form") == "whole"
    if complete and (scope_of(request.user) is not None or head.size - Segment.archived() > MAX_ENTRIES):
        words = (
            "The whole log is for operators of all tenants; very large ones by manage.py audit_export_tiles."
        )
        return HttpResponse(words, status=403, content_type="text/plain")
    try:
        spend(DOWNLOADS, UUID(int=request.user.pk or 0), PER_MINUTE)
    except RateExceeded as refused:
        words = f"{PER_MINUTE} exports a minute are the most. Try again in {refused.wait} s."
        return HttpResponse(words, status=429, content_type="text/plain")
    _note(Actor.of(request.user), "log" if complete else "receipts", form.asked(), head)
    lines = partial(whole, head, log.vkey().name) if complete else partial(receipts, form.filters, head)
    response = StreamingHttpResponse(_bytes(lines()), content_type="application/jsonl")
    return _file(response, f"{'log' if complete else 'entries'}-{head.size}.jsonl")


@transaction.atomic
def _note(actor: Actor, form: str, asked: dict[str, str], head: Checkpoint) -> None:
    """Which fields narrowed it, not what stood in them: people type names there."""
    record(
        action="record.exported",
        actor=actor,
        target=("checkpoint", head.size),
        data={"form": form, "narrowed_by": sorted(asked), "most": MAX_RECEIPTS},
    )


def _bytes(lines: Iterator[str]) -> Iterator[bytes]:
    """Some hundred lines at a time: a line by itself costs a system call and a packet."""
    held: list[str] = []
    for line in lines:
        held.append(line)
        if len(held) == 200:
            yield "".join(held).encode()
            held = []
    yield "".join(held).encode()


def _file(response: HttpResponseBase, name: str) -> HttpResponseBase:
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response
