"""What an audited change costs: the same change bare, with an entry of ours, and with one of django-auditlog.

The change is one person's first name, saved through the model. All three write to the same database over
the same connection, by turns in a shuffled order, so that whatever else the machine does befalls them alike.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median

from auditlog.context import set_actor
from auditlog.registry import auditlog
from django.contrib.auth.models import User
from django.db import transaction

from audit.context import Actor, bind
from audit.services import record
from bench.audit.figures import timed

ADDRESS = "203.0.113.7"
NAME = "bench-cost"
AUDITLOG = "django-auditlog"


def measure(rounds: int) -> dict[str, float]:
    """Milliseconds per change, median: in a transaction of its own, and as one of many in one transaction."""
    user = User.objects.create_user(NAME, first_name="a")
    changes = {"bare": _Bare(user), "portal": _Portal(user), AUDITLOG: _Bare(user)}
    found: dict[str, float] = {}
    with bind(request_id="f" * 32, address=ADDRESS, session=lambda: "0123456789abcdef"):
        _in_turns({name: each.durable for name, each in changes.items()}, 20)  # warm: commitments are known
        for words, way in (("own transaction", "durable"), ("within a transaction", "inside")):
            taken = _in_turns({name: getattr(each, way) for name, each in changes.items()}, rounds)
            found |= {f"{words}: {name}": median(each) * 1000 for name, each in taken.items()}
    for words in ("own transaction", "within a transaction"):
        for name in ("portal", AUDITLOG):
            found[f"{words}: cost of {name}"] = found[f"{words}: {name}"] - found[f"{words}: bare"]
    return {name: round(value, 3) for name, value in found.items()}


class _Bare:
    """The change alone."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.turn = 0

    def inside(self) -> None:
        """Change the name, in the caller's transaction."""
        self.turn += 1
        self.user.first_name = f"name {self.turn}"
        self.user.save()

    def durable(self) -> None:
        """The same in a transaction of its own."""
        with transaction.atomic():
            self.inside()


class _Portal(_Bare):
    """With an entry of ours that says what auditlog's says."""

    def inside(self) -> None:
        """Change and record."""
        old = self.user.first_name
        super().inside()
        data = {"first_name": [old, self.user.first_name]}
        record(action="user.changed", actor=Actor.of(self.user), target=("user", self.user.pk), data=data)


def _in_turns(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Tens of changes by turns, in a shuffled order."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    order = random.Random(6)  # noqa: S311 - an order, no secret
    for _ in range(max(1, rounds // 10)):
        for name in order.sample(list(ways), len(ways)):
            with _watching(name), _around(ways[name]):
                taken[name] += timed([ways[name]] * 10)
    return taken


@contextmanager
def _watching(name: str) -> Iterator[None]:
    """django-auditlog as its manual sets it up, while it is its turn: model registered, actor in context."""
    if name != AUDITLOG:
        yield
        return
    auditlog.register(User, include_fields=["first_name"])
    try:
        with set_actor(User.objects.get(username=NAME), remote_addr=ADDRESS):
            yield
    finally:
        auditlog.unregister(User)


def _around(way: Callable[[], None]) -> AbstractContextManager[object]:
    return transaction.atomic() if way.__name__ == "inside" else nullcontext()
