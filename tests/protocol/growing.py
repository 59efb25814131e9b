"""A small log for tests: leaves in memory, a key, and what it would send to a witness."""

from dataclasses import dataclass, field
from typing import Any, Self

from protocol.checkpoints import Checkpoint, signed
from protocol.merkle import consistency_proof, leaf_hash, root
from protocol.notes import VerifierKey, vkey_of
from protocol.witnessing import Request

ORIGIN = "portal.localhost/log/test"
SEED = bytes(range(32))


@dataclass
class Log:
    """Leaves that are only their hashes."""

    leaves: list[bytes] = field(default_factory=list)
    seed: bytes = SEED
    origin: str = ORIGIN

    @classmethod
    def of(cls, size: int, kind: str = "entry", **more: Any) -> Self:
        """``size`` leaves whose contents depend on ``kind`` alone."""
        return cls([leaf_hash(f"{kind} {index}".encode()) for index in range(size)], **more)

    @property
    def vkey(self) -> VerifierKey:
        return vkey_of(self.origin, self.seed)

    def fork(self, at: int, size: int) -> Self:
        """The same up to ``at``, and other leaves after it; under the same key."""
        other = type(self).of(size, "other").leaves
        return type(self)(self.leaves[:at] + other[at:], self.seed, self.origin)

    def grown(self, size: int) -> Self:
        """The same with more leaves."""
        more = type(self).of(size).leaves[len(self.leaves) :]
        return type(self)(self.leaves + more, self.seed, self.origin)

    def note(self, size: int | None = None) -> str:
        """The signed checkpoint over the first ``size`` leaves; over all, if not given."""
        leaves = self.leaves[:size]
        return signed(Checkpoint(self.origin, len(leaves), root(leaves)), self.seed, self.origin)

    def request(self, old: int, size: int | None = None) -> Request:
        """What a portal would send to a witness that holds ``old`` leaves."""
        new = len(self.leaves) if size is None else size
        proof = consistency_proof(self.leaves, old, new) if 0 < old <= new else []
        return Request(old, tuple(proof), self.note(new))
