"""Proofs and staff's search, in a log of some size."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from random import Random

from audit import proofs
from audit.models import Checkpoint, Entry, Leaf
from audit.search import Cursor, Filters, search
from bench.audit.figures import Figures, spread, timed
from bench.audit.seeding import ACTIONS, BEGINNING, PEOPLE, RARE_ACTION, RARE_WORD, TENANTS, WORDS


def day(number: int) -> datetime:
    """A day of the log's 600."""
    return BEGINNING + timedelta(days=number)


_Questions = dict[str, Callable[[Random], Filters]]
QUESTIONS: _Questions = {
    "newest": lambda _: Filters(),
    "tenant": lambda r: Filters(tenant=r.choice(TENANTS)),
    "actor": lambda r: Filters(actors=(("user", str(r.randrange(PEOPLE))),)),
    "frequent action": lambda r: Filters(action=r.choice(ACTIONS)),
    "rare action": lambda _: Filters(action=RARE_ACTION),
    "time": lambda r: Filters(since=day(r.randrange(300)), until=day(301)),
    "frequent word": lambda r: Filters(text=r.choice(WORDS)),
    "rare word": lambda _: Filters(text=RARE_WORD),
    "no such word": lambda _: Filters(text="nowhere"),
    "two words": lambda r: Filters(text=f"{r.choice(WORDS)} {RARE_WORD}"),
    "tenant, actor, action": lambda r: Filters(
        tenant=r.choice(TENANTS), actors=(("user", str(r.randrange(PEOPLE))),), action=r.choice(ACTIONS)
    ),
    "tenant, word, time": lambda r: Filters(
        tenant=r.choice(TENANTS), text=r.choice(WORDS), since=day(r.randrange(500))
    ),
}  # fmt: skip


def newest() -> Checkpoint:
    """The head of the log. Raises SystemExit: it has none."""
    head = proofs.latest()
    if head is None:
        raise SystemExit("The log has no checkpoint.")
    return head


def proof(rounds: int) -> dict[str, Figures]:
    """Milliseconds for a receipt (its inclusion proof and checkpoint), and for a consistency proof."""
    random = Random(6)  # noqa: S311 - a choice, no secret
    head = newest()
    rows = [random.randrange(head.size) for _ in range(rounds + 20)]
    entries = [Leaf.objects.select_related("entry").get(index=index).entry for index in rows]
    receipts = timed(partial(proofs.receipt, entry) for entry in entries)
    consistency = timed(partial(proofs.consistency, index + 1, head.size) for index in rows)
    return {"inclusion": spread(receipts[20:]), "consistency": spread(consistency[20:])}


def searching(rounds: int) -> dict[str, Figures]:
    """Milliseconds for a page of 50, the newest or one from anywhere in the log; the questions by turns."""
    random = Random(7)  # noqa: S311 - a choice, no secret
    top = Entry.objects.order_by("-pk").values_list("pk", flat=True)[0]
    taken: dict[str, list[float]] = {name: [] for name in (*QUESTIONS, "request id", "target")}
    for turn in range(rounds + 1):
        cursor = Cursor(before=random.randrange(2, top)) if turn % 2 else Cursor()
        some = Entry.objects.filter(pk__gte=random.randrange(1, top)).order_by("pk")[0]
        asked = {name: make(random) for name, make in QUESTIONS.items()}
        asked["request id"] = Filters(request_id=some.request_id)
        asked["target"] = Filters(target_type=some.target_type, target_id=some.target_id)
        for name, filters in asked.items():
            seconds = timed([partial(search, filters, cursor)])
            taken[name] += seconds if turn else []
    everything = [each for all_ in taken.values() for each in all_]
    return {"all questions": spread(everything), **{name: spread(each) for name, each in taken.items()}}
