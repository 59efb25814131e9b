"""What is wrong with the record, for the staff's pages, `audit_status` and the no-go probe.

``loud`` is what may mean that somebody rewrites the record: it stands red on every page of the staff's site
until a person has looked into it. ``alert`` is what keeps the record from being watched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from django.db.models import Max, Min, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from audit.disputes import open_disputes
from audit.models import Checkpoint, Cosignature, SequencerFence
from audit.proofs import unsequenced
from audit.witnesses import active, open_refusals

LAG = timedelta(seconds=60)
"""How old an entry may be that has no leaf."""
UNWATCHED = timedelta(minutes=10)
"""How old a checkpoint may be under which, or under a later one, no witness has signed."""
SHOWN = 20


@dataclass(frozen=True)
class Alert:
    """One thing that is wrong."""

    code: str
    severity: Literal["loud", "alert"]
    words: str
    """What it means, for anybody on the staff: names no tenant's machine."""
    at: datetime
    about: str = ""
    """Which witness, for those who may know."""


Source = Callable[[], list[Alert]]
_SOURCES: list[Source] = []


def source(found: Source) -> Source:
    """Have another room's alerts shown beside the record's. Asked on each staff page: few, cheap queries."""
    _SOURCES.append(found)
    return found


def everywhere() -> list[Alert]:
    """The record's and those of the rooms above, the loudest first."""
    found = [*alerts(), *(alert for one in _SOURCES for alert in one())]
    return sorted(found, key=lambda alert: alert.severity != "loud")


def alerts() -> list[Alert]:
    """The record's own, the loudest first. Few and cheap queries, whatever the size of the record."""
    fence = _fence()
    watchers = [*_unwatched(), *_silent()]
    return [*_trouble(fence), *_refusals(), *_disputes(), *_unsequenced(fence), *watchers]


def loud() -> list[Alert]:
    """Those that stand on every page of the staff's site: the record's, and those of the rooms above."""
    above = [alert for one in _SOURCES for alert in one() if alert.severity == "loud"]
    return [*_trouble(_fence()), *_refusals(), *_disputes(), *above]


def _trouble(row: SequencerFence | None) -> list[Alert]:
    if row is None or not row.trouble:
        return []
    words = f"The log refuses to sign: {row.trouble_words} Nothing new is vouched for meanwhile."
    return [Alert(f"log_{row.trouble}", "loud", words, row.trouble_at or timezone.now())]


def _refusals() -> list[Alert]:
    return [
        Alert(
            "witness_refused",
            "loud",
            f"A witness refuses to sign the audit record: {refusal.get_reason_display()}.",
            refusal.at,
            refusal.witness.name,
        )
        for refusal in open_refusals()[:SHOWN]
    ]


def _disputes() -> list[Alert]:
    return [
        Alert(
            "record_disputed",
            "loud",
            "Somebody has shown a checkpoint with the log's own signature that the audit record does not "
            f"continue: another history of {dispute.size} entries.",
            dispute.at,
        )
        for dispute in open_disputes()[:SHOWN]
    ]


def _unsequenced(row: SequencerFence | None) -> list[Alert]:
    oldest = unsequenced(row.low if row else 0).aggregate(at=Min("at"))["at"]
    if oldest is None or timezone.now() - oldest <= LAG:
        return _unseen(row)
    minutes = (timezone.now() - oldest).total_seconds() / 60
    words = f"Entries have waited {minutes:.0f} min for their leaf: the sequencer does not run, or is behind."
    return [Alert("sequencer_lag", "alert", words, oldest)]


def _unseen(row: SequencerFence | None) -> list[Alert]:
    """Nothing waits; but it has not been there for longer than an idle one keeps quiet."""
    if row is None or row.at is None or timezone.now() - row.at <= LAG:
        return []
    words = f"The sequencer was last seen at {row.at:%Y-%m-%d %H:%M} UTC: it does not run, or hangs."
    return [Alert("sequencer_lag", "alert", words, row.at)]


def _unwatched() -> list[Alert]:
    signed = Cosignature.objects.filter(witness__retired_at=None).aggregate(size=Max("checkpoint__size"))
    first = Checkpoint.objects.filter(size__gt=signed["size"] or 0).order_by("size").first()
    if first is None or timezone.now() - first.at <= UNWATCHED:
        return []
    words = f"No witness has signed since {first.at:%Y-%m-%d %H:%M} UTC: nobody watches the record."
    return [Alert("no_witness", "alert", words, first.at)]


def _silent() -> list[Alert]:
    """Outside witnesses, each: the tenants' machines sign on while somebody keeps these from being asked."""
    signed = Cosignature.objects.filter(witness=OuterRef("pk")).order_by("-checkpoint__size")
    held = Coalesce(Subquery(signed.values("checkpoint__size")[:1]), 0)
    since = Checkpoint.objects.filter(size__gt=OuterRef("held")).order_by("size").values("at")[:1]
    outside = active().exclude(url="").annotate(held=held).annotate(first=Subquery(since))
    found = [(max(each.first, each.added_at), each) for each in outside if each.first]
    late = [(at, each) for at, each in found if timezone.now() - at > UNWATCHED]
    return [
        Alert(
            "witness_silent",
            "alert",
            f"An outside witness has signed nothing newer since {at:%Y-%m-%d %H:%M} UTC.",
            at,
            each.name,
        )
        for at, each in late[:SHOWN]
    ]


def _fence() -> SequencerFence | None:
    return SequencerFence.objects.filter(pk=SequencerFence.ROW).first()
