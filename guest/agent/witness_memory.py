"""What this guest keeps as a witness: what it has signed, and what the log showed beside it.

A contradiction is proved to anybody by two notes that the log itself has signed: one size, two roots. Nothing
else is one. What was refused for its proof or its size alone may have come from a portal that fumbled, so it
is a doubt: kept beside, few and the newest, and never in a contradiction's place. It becomes one once the log
signs another root for the same size.
"""

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any, Self

from protocol.checkpoints import Checkpoint
from protocol.notes import Note
from protocol.witnessing import State

MAX_CONTRADICTIONS = 8
"""The first ones are kept: they show where the log went wrong, and later ones do not push them out."""
MAX_DOUBTS = 8
"""The newest are kept: anybody with an old checkpoint of the log can make them."""
MAX_EARLIER = 16


@dataclass(frozen=True)
class Shown:
    """A checkpoint of the log that this machine has refused."""

    reason: str
    at: int
    """Seconds since 1970."""
    held: int
    """Size of the tree that this machine had accepted by then."""
    note: str
    """As the log signed it."""
    against: str = ""
    """Another note of the log's for the same size and another root. Empty for a doubt."""
    seen: bool = False
    """Whether an owner has seen it."""


@dataclass(frozen=True)
class Memory:
    """All that is kept, in one file: a line with the SHA-256 of what follows, and JSON."""

    log: str = ""
    """Verifier key of the log; empty until papers name one."""
    size: int = 0
    root: str = ""
    """Hex; empty while nothing was accepted."""
    at: int = 0
    """When the newest was signed, in seconds since 1970."""
    note: str = ""
    """The newest accepted checkpoint as the log signed it, with this machine's own signature at its end."""
    earlier: tuple[str, ...] = ()
    """Those accepted before it, the newest last."""
    contradictions: tuple[Shown, ...] = ()
    doubts: tuple[Shown, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises ValueError, TypeError or KeyError: it is not what was written."""
        digest, _, body = data.partition(b"\n")
        if digest.decode() != sha256(body).hexdigest():
            raise ValueError("damaged")
        document = json.loads(body)
        if "seen" in document:  # an older agent's: its contradictions have no second note, so they are doubts
            del document["seen"]
            document |= {"contradictions": [], "doubts": document["contradictions"], "earlier": []}
        return cls(
            **{
                **document,
                "earlier": tuple(document["earlier"]),
                "contradictions": _all_shown(document["contradictions"]),
                "doubts": _all_shown(document["doubts"]),
            }
        )

    def to_bytes(self) -> bytes:
        """As it is stored. Not canonical JSON, which normalises texts: a note is kept as it was signed."""
        body = json.dumps(asdict(self), sort_keys=True).encode()
        return sha256(body).hexdigest().encode() + b"\n" + body

    @property
    def state(self) -> State | None:
        """What a newer checkpoint has to extend."""
        return State(self.size, bytes.fromhex(self.root)) if self.root else None

    @property
    def unseen(self) -> int:
        """How many contradictions and doubts no owner has seen."""
        return sum(not each.seen for each in (*self.contradictions, *self.doubts))

    def accepting(self, accepted: Checkpoint, note: str, now: int) -> Self:
        """With this as the newest. A doubt about the same size is proved now, if its root is another."""
        earlier = self.earlier
        if self.note and self.size != accepted.size:
            earlier = (*earlier, self.note)[-MAX_EARLIER:]
        new = replace(self, size=accepted.size, root=accepted.root.hex(), at=now, note=note, earlier=earlier)
        proved = [each for each in self.doubts if _differ(each.note, note)]
        for each in proved:
            new = new._with_contradiction(replace(each, reason="forked", against=note, seen=False))
        return replace(new, doubts=tuple(each for each in self.doubts if each not in proved))

    def refusing(self, reason: str, note: str, now: int) -> Self:
        """With this checkpoint, which the log has signed, as a contradiction if it is one, or as a doubt."""
        known = (self.note, *self.earlier, *(each.note for each in self.doubts))
        shown = Shown(reason, now, self.size, note)
        against = next((other for other in known if other and _differ(other, note)), "")
        if against:
            return self._with_contradiction(replace(shown, reason="forked", against=against))
        if reason == "stale" or any(_same(other, note) for other in (self.note, *self.earlier) if other):
            return self  # the portal only asked from another size, or showed what was signed here
        if any(each.note == note for each in self.doubts):
            return self
        return replace(self, doubts=(*self.doubts, shown)[-MAX_DOUBTS:])

    def all_seen(self) -> Self:
        """With nothing left that no owner has seen."""
        return replace(self, contradictions=_seen(self.contradictions), doubts=_seen(self.doubts))

    def _with_contradiction(self, new: Shown) -> Self:
        known = self.contradictions
        if len(known) == MAX_CONTRADICTIONS or any(each.note == new.note for each in known):
            return self
        return replace(self, contradictions=(*known, new))

    def shown(self) -> dict[str, Any]:
        """What members see of it."""
        return {
            "note": self.note,
            "contradictions": [asdict(each) for each in self.contradictions],
            "doubts": [asdict(each) for each in self.doubts],
            "unseen": self.unseen,
        }


def _all_shown(documents: list[dict[str, Any]]) -> tuple[Shown, ...]:
    return tuple(Shown(**each) for each in documents)


def _seen(refused: tuple[Shown, ...]) -> tuple[Shown, ...]:
    return tuple(replace(each, seen=True) for each in refused)


def _differ(one: str, other: str) -> bool:
    first, second = _checkpoint(one), _checkpoint(other)
    return first.size == second.size and first.root != second.root


def _same(one: str, other: str) -> bool:
    first, second = _checkpoint(one), _checkpoint(other)
    return (first.size, first.root) == (second.size, second.root)


def _checkpoint(note: str) -> Checkpoint:
    """Of a note whose signature was checked when it was taken."""
    return Checkpoint.parse(Note.parse(note).text)
