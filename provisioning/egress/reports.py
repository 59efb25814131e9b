"""What an egress keeper says of itself, read with suspicion: it runs beside the proxy. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from provisioning.egress.rules import MAX_GENERATION, Rules

MAX_PROBLEM = 300
"""Characters of the keeper's own words that are kept."""
_MAX_COUNT = 1 << 53
"""Far more than a network card moves, and far from what a database column holds."""
_DIGEST = re.compile(r"(?:[0-9a-f]{64})?")


class ReportError(ValueError):
    """A state that cannot be believed; the message repeats nothing of it."""


@dataclass(frozen=True)
class Dropped:
    """What a guest sent past the proxy since the host's counter began."""

    packets: int
    bytes: int


@dataclass(frozen=True)
class Report:
    """A keeper's state. ``NOTHING`` stands for a keeper that has never said anything."""

    generation: int = 0
    """The rule document that the proxy follows; 0: none."""
    digest: str = ""
    applied_at: datetime | None = None
    seen_at: datetime | None = None
    """When it last wrote its state, by its own clock; a living one does so every ten seconds."""
    refused: int = 0
    """The newest document that the keeper would not follow; 0: none."""
    problem: str = ""
    serving: frozenset[UUID] = frozenset()
    dropped: Mapping[UUID, Dropped] = field(default_factory=dict)
    first_record: int = 0
    last_record: int = 0
    walls: bool = True
    """Whether the host's own rules about guests' links stand, beside libvirt's filters."""

    def follows(self, rules: Rules) -> bool:
        """Whether the proxy does just what ``rules`` say."""
        return (self.generation, self.digest) == (rules.generation, rules.digest)


NOTHING = Report()


def parse(data: bytes | None) -> Report:
    """The keeper's state file.

    Raises:
        ReportError: not what a keeper writes.
    """
    if data is None:
        return NOTHING
    try:
        return _report(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
        raise ReportError("The egress keeper's state cannot be read. See the keeper's log.") from None


def _report(told: dict[str, Any]) -> Report:
    if told["version"] != 1:
        raise ValueError
    return Report(
        generation=_count(told["generation"], MAX_GENERATION),
        digest=_digest(told["digest"]),
        applied_at=_time(told["applied_at"]),
        seen_at=_time(told["seen_at"]),
        refused=_count(told.get("refused") or 0, MAX_GENERATION),
        problem=_words(told["problem"]),
        serving=frozenset(UUID(each) for each in told["serving"]),
        dropped={UUID(key): _dropped(value) for key, value in told["dropped"].items()},
        first_record=_count(told["records"]["first"], MAX_GENERATION),
        last_record=_count(told["records"]["last"], MAX_GENERATION),
        walls="walls" in told.get("capabilities", ()),
    )


def _dropped(value: dict[str, Any]) -> Dropped:
    return Dropped(_count(value["packets"]), _count(value["bytes"]))


def _count(value: Any, limit: int = _MAX_COUNT) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError
    return value


def _time(value: Any) -> datetime | None:
    if type(value) not in {int, float}:
        raise ValueError
    return datetime.fromtimestamp(value, tz=UTC) if value else None


def _words(value: Any) -> str:
    """One printable line."""
    if not isinstance(value, str):
        raise ValueError
    return "".join(letter if letter.isprintable() else " " for letter in value)[:MAX_PROBLEM]
