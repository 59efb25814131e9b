"""Whatever happens in whatever order: what has ended stays so, and nothing is open longer than was signed."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from guest.agent.breakglass.refusals import BreakGlassRefused
from protocol.tickets import Ticket
from tests.guest.glass import Glass
from tests.protocol.ticketing import a_grant, a_ticket

STEPS = 80
DEEDS = ["ask"] * 4 + ["deliver"] * 3 + ["time"] * 4 + ["end", "restart", "reboot", "suspend", "terms"]


class Life:
    """A guest's, with tickets, ends, clocks, restarts, suspensions and terms; and what must be true of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.glass, self.chance = Glass(folder), Random(seed)  # noqa: S311 - a walk, no secret
        self.tickets: list[Ticket] = []
        self.grants: dict[str, Any] = {}
        self.lived: dict[str, int] = {}
        """Seconds by the monotonic clock since each opened, in this start of the machine."""
        self.until: dict[str, int] = {}
        self.ended: set[str] = set()
        self.version = 0
        self.seen: set[str] = set()

    def step(self) -> None:
        getattr(self, self.chance.choice(DEEDS))()
        for ticket in self.tickets:
            said = self.glass.refusal(ticket.ticket)
            self.seen.add(said)
            if said == "open":
                assert ticket.ticket not in self.ended
                assert self.lived[ticket.ticket] < ticket.seconds
                assert self.glass.clock.wall < self.until[ticket.ticket] <= ticket.wait_until + ticket.seconds
            if said == "ended":
                self.ended.add(ticket.ticket)

    def ask(self) -> None:
        """A ticket and its approvals; delivered now, or perhaps later."""
        wall = self.glass.clock.wall
        document = a_ticket(seconds=self.chance.choice([60, 120]), asked_at=wall, wait_until=wall + 120)
        self.tickets.append(Ticket.parse(document))
        self.grants[self.tickets[-1].ticket] = a_grant(document)
        if self.chance.random() < 0.5:
            self.deliver(self.tickets[-1])

    def deliver(self, ticket: Ticket | None = None) -> None:
        if not self.tickets:
            return
        found = ticket or self.chance.choice(self.tickets)
        try:
            opened = self.glass.access.take(self.grants[found.ticket])
        except BreakGlassRefused:
            return
        assert found.ticket not in self.ended
        self.lived.setdefault(found.ticket, 0)
        assert self.until.setdefault(found.ticket, opened.until) == opened.until

    def end(self) -> None:
        if self.tickets:
            name = self.chance.choice(self.tickets).ticket
            self.glass.access.end(name, self.chance.choice(["portal", "owner", "done"]))
            self.ended.add(name)

    def time(self) -> None:
        """The machine's own time, with a wall clock that goes along, or that somebody holds or sets ahead."""
        seconds = self.chance.choice([10, 30, 61])
        self.glass.clock.go(seconds)
        self.glass.clock.wall += self.chance.choice([0, -seconds, 61])
        self.lived = {name: lived + seconds for name, lived in self.lived.items()}

    def restart(self) -> None:
        self.glass = self.glass.restarted()

    def reboot(self) -> None:
        self.glass.clock.monotonic = 5.0
        self.glass = self.glass.restarted(f"boot {self.chance.random()}")
        self.lived = dict.fromkeys(self.lived, 0)

    def suspend(self) -> None:
        self.glass.members.suspend(True)
        self.glass.access.changed()
        self.glass.members.suspend(False)
        self.ended |= set(self.lived)

    def terms(self) -> None:
        self.version += 2
        self.glass.take_terms(version=self.version, ordinary="closed")
        self.glass.take_terms(version=self.version + 1)
        self.ended |= set(self.lived)


@pytest.mark.parametrize("seed", range(6))
def test_a_life(tmp_path: Path, seed: int) -> None:
    """One chain, and for each ticket one beginning and one end at most."""
    life = Life(tmp_path, seed)
    for _ in range(STEPS):
        life.step()
    receipts = life.glass.receipts()
    for event in ("granted", "ended"):
        about = [each["ticket"] for each in receipts if each["event"] == event]
        assert len(about) == len(set(about))
    assert {"open", "no_grant", "ended", "expired"} <= life.seen
