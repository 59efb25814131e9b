"""The form of an approver set: from what a browser sends to people and numbers, with words by each field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

from breakglass.models import Passkey
from breakglass.people import usable_passkeys
from portal.breakglass.set_words import NUMBERS, numbers
from protocol.approvers import DEFAULT_POLICY, MAX_APPROVERS, ApproverSet

DEFAULTS = {"threshold": 2, **DEFAULT_POLICY}


@dataclass(frozen=True)
class SetForm:
    """What is typed, and what is wrong with it."""

    chosen: frozenset[str]
    """Fingerprints."""
    typed: Mapping[str, str]
    """By the names of :data:`NUMBERS`."""
    errors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, current: ApproverSet | None) -> "SetForm":
        """As the set in force is, or as a first one would be."""
        held = numbers(current) or DEFAULTS
        chosen = frozenset(current.approvers) if current else frozenset()
        return cls(chosen, {name: str(held[name]) for name in NUMBERS})

    @classmethod
    def sent(cls, form: QueryDict) -> "SetForm":
        """From a posted form, with its errors."""
        typed = {name: form.get(name, "").strip()[:4] for name in NUMBERS}
        found = cls(frozenset(form.getlist("keys")[: MAX_APPROVERS + 1]), typed)
        return cls(found.chosen, typed, found._wrong())

    def passkeys(self) -> list[Passkey]:
        """Those that are chosen and may sign; others are not taken."""
        return [passkey for passkey in offered() if passkey.fingerprint in self.chosen]

    @property
    def threshold(self) -> int:
        """How many people change the set. Only where there are no errors."""
        return int(self.typed["threshold"])

    @property
    def policy(self) -> dict[str, int]:
        """The other numbers. Only where there are no errors."""
        return {name: int(self.typed[name]) for name in NUMBERS if name != "threshold"}

    def _wrong(self) -> dict[str, str]:
        people = len({passkey.user_id for passkey in self.passkeys()})
        if not people:
            return {"keys": "Choose at least one passkey."}
        if len(self.chosen) > MAX_APPROVERS:
            return {"keys": f"Choose {MAX_APPROVERS} passkeys at most."}
        wrong = {name: words for name, typed in self.typed.items() if (words := _wrong_number(typed, people))}
        return wrong or {name: words for name in self.policy if (words := self._too_many(name))}

    def _too_many(self, name: str) -> str:
        """Who can change the set can lower its numbers."""
        if self.policy[name] <= self.threshold:
            return ""
        can = "1 person changes" if self.threshold == 1 else f"{self.threshold} people change"
        return f"{can} the set, and could lower this. Give {self.threshold} at most, or raise that number."


def offered() -> Sequence[Passkey]:
    """The passkeys that may be chosen, person by person."""
    return list(usable_passkeys().order_by("user__username", "registered_at", "pk"))


def people_offered(form: SetForm) -> list[dict[str, Any]]:
    """For the page: each person with their passkeys, and which are chosen."""
    people: dict[int, dict[str, Any]] = {}
    for passkey in offered():
        person = people.setdefault(passkey.user_id, {"name": passkey.user.get_username(), "keys": []})
        person["keys"].append({"passkey": passkey, "chosen": passkey.fingerprint in form.chosen})
    return list(people.values())


def _wrong_number(typed: str, people: int) -> str:
    if not (typed.isascii() and typed.isdigit()) or int(typed) < 1:
        return "Give a number from 1."
    if int(typed) > people:
        return f"{typed} people can never agree: you have chosen {people}."
    return ""
