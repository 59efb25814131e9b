"""Approver sets in words: what needs how many people, and what a proposed set changes."""

from collections.abc import Iterator

from breakglass.people import Seat, seats_of
from portal.breakglass.words import scope
from protocol.approvers import ApproverSet

NUMBERS = {
    "threshold": "Changing this set",
    **{code: scope(code) for code in ("status", "logs:read", "workspace:read", "workspace:write", "exec")},
    "emergency": "An emergency, as a whole",
}
"""What needs how many people, in the order of pages."""


def numbers(approvers: ApproverSet | None) -> dict[str, int]:
    """How many people each of :data:`NUMBERS` needs; nothing without a set."""
    if approvers is None:
        return {}
    held = {"threshold": approvers.threshold, **approvers.policy}
    return {name: held[name] for name in NUMBERS}


def changes(current: ApproverSet | None, proposed: ApproverSet) -> list[str]:
    """What its signers must have read, in sentences."""
    had, has = ({seat.person: seat for seat in seats_of(each, {})} for each in (current, proposed))
    told = [f"{seat.name} joins, with {_keys(seat)}." for person, seat in has.items() if person not in had]
    told += [f"{seat.name} leaves." for person, seat in had.items() if person not in has]
    for person, seat in has.items():
        told += _of_person(had[person], seat) if person in had else []
    before = numbers(current)
    for name, number in numbers(proposed).items():
        if before.get(name, number) != number:
            told.append(f"{NUMBERS[name]}: {_people(number)} instead of {before[name]}.")
    return told


def _of_person(had: Seat, has: Seat) -> Iterator[str]:
    before, after = ({key.fingerprint for key in seat.keys} for seat in (had, has))
    yield from (f"{has.name} gets the key {key[:16]}." for key in sorted(after - before))
    yield from (f"{has.name} loses the key {key[:16]}." for key in sorted(before - after))
    if had.name != has.name:
        yield f"{had.name} is called {has.name}."


def _keys(seat: Seat) -> str:
    return " and ".join(key.fingerprint[:16] for key in seat.keys)


def _people(number: int) -> str:
    return f"{number} {'person' if number == 1 else 'people'}"
