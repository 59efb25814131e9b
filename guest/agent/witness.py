"""This guest as a witness of the audit log: it keeps the newest checkpoint and signs only what extends it.

The log's key is the one that the first papers named. Later papers replace it as little as they replace the
pinned keyring: a log under another key is refused, and the status says so. What is signed is on the disk
before anybody gets the signature, so at no moment does a stop make it forget what it has vouched for.

Formats: C2SP tlog-witness, tlog-cosignature and tlog-checkpoint (:mod:`protocol.witnessing`).
"""

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from guest.agent.files import FileDamaged, make_private_folder, read_optional, write_atomically
from protocol.checkpoints import cosign
from protocol.enrolment import runtime_dns_name
from protocol.notes import COSIGNATURE_V1, KEY_BYTES, Note, NoteError, VerifierKey, new_key, vkey_of
from protocol.witnessing import Reason, Refused, Request, State, judge

KEY_FILE = "witness.key"
MEMORY_FILE = "witness.json"
CONTRADICTIONS = frozenset({"smaller", "forked", "proof"})
"""Why a checkpoint that the log itself signed was refused: it does not fit what the log signed before."""
MAX_CONTRADICTIONS = 8
"""The first ones are kept: they show where the log went wrong, and later ones do not push them out."""


class WitnessFileError(FileDamaged):
    """A file of this module is damaged or missing. A fresh one would sign a second history."""


@dataclass(frozen=True)
class Contradiction:
    """A checkpoint of the log that does not fit what this machine had accepted."""

    reason: str
    at: int
    """Seconds since 1970."""
    held: int
    """Size of the tree that this machine had accepted by then."""
    note: str


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
    contradictions: tuple[Contradiction, ...] = ()
    seen: int = 0
    """How many of the contradictions an owner has seen."""

    @classmethod
    def parse(cls, data: bytes) -> "Memory":
        """Raises ValueError, TypeError or KeyError: it is not what was written."""
        digest, _, body = data.partition(b"\n")
        if digest.decode() != sha256(body).hexdigest():
            raise ValueError("damaged")
        document = json.loads(body)
        found = tuple(Contradiction(**each) for each in document["contradictions"])
        return cls(**{**document, "contradictions": found})

    def to_bytes(self) -> bytes:
        """As it is stored. Not canonical JSON, which normalises texts: a note is kept as it was signed."""
        body = json.dumps(asdict(self), sort_keys=True).encode()
        return sha256(body).hexdigest().encode() + b"\n" + body


class Witness:
    """The memory of this guest, and its signing key."""

    def __init__(self, folder: Path, runtime_id: str, log: str) -> None:
        """``log``: the verifier key in this start's papers, or empty.

        Raises:
            WitnessFileError: what is on the volume is damaged, or only half of it is there.
        """
        make_private_folder(folder)
        self._path = folder / MEMORY_FILE
        self._name = runtime_dns_name(runtime_id)
        stored, key = read_optional(self._path), read_optional(folder / KEY_FILE)
        self._memory = _memory(stored, key)
        self._offered = log
        if stored is None or (log and not self._memory.log):
            self._keep(replace(self._memory, log=log))
        # After the memory: a stop in between leaves a memory of nothing, to which a key can still be made.
        self._seed = _seed(folder / KEY_FILE, key, self._name)

    @property
    def vkey(self) -> str:
        """The verifier key of this machine's cosignatures."""
        return str(vkey_of(self._name, self._seed, COSIGNATURE_V1))

    def consider(self, text: str, now: int) -> dict[str, Any]:
        """Sign the checkpoint in ``text``, an add-checkpoint request, or say why not.

        Args:
            now: seconds since 1970.

        Raises:
            OSError: it cannot be remembered, and so is not signed.
        """
        try:
            request = Request.parse(text)
        except NoteError:
            return self._refused("malformed")
        if not self._memory.log:
            return self._refused("origin")
        log = VerifierKey.parse(self._memory.log)
        try:
            accepted = judge(self._state(), request, log)
        except Refused as refusal:
            if refusal.reason in CONTRADICTIONS:
                self._note_contradiction(refusal.reason, request.note, now)
            return self._refused(refusal.reason)
        line = cosign(request.note, self._name, self._seed, now)
        self._keep(
            replace(
                self._memory,
                size=accepted.size,
                root=accepted.root.hex(),
                at=now,
                note=_signed_by(request.note, log).signed_also(line).to_text(),
            )
        )
        return {"verdict": "signed", "size": accepted.size, "cosignature": line}

    def saw_contradictions(self) -> None:
        """An owner has seen those of now. They stay."""
        self._keep(replace(self._memory, seen=len(self._memory.contradictions)))

    def statement(self) -> dict[str, Any]:
        """What the status says: public facts only."""
        memory = self._memory
        return {
            "vkey": self.vkey,
            "log": memory.log,
            "other_log_offered": bool(self._offered) and self._offered != memory.log,
            "size": memory.size,
            "root": memory.root,
            "at": memory.at,
            "contradictions": len(memory.contradictions),
        }

    def shown(self) -> dict[str, Any]:
        """What members see: also the checkpoint itself, and what contradicts it."""
        memory = self._memory
        return self.statement() | {
            "note": memory.note,
            "contradictions": [asdict(each) for each in memory.contradictions],
            "unseen": len(memory.contradictions) - memory.seen,
        }

    def _state(self) -> State | None:
        memory = self._memory
        return State(memory.size, bytes.fromhex(memory.root)) if memory.root else None

    def _refused(self, reason: str) -> dict[str, Any]:
        return {"verdict": "refused", "reason": reason, "size": self._memory.size}

    def _note_contradiction(self, reason: Reason, shown: str, now: int) -> None:
        known = self._memory.contradictions
        note = _signed_by(shown, VerifierKey.parse(self._memory.log)).to_text()
        if len(known) < MAX_CONTRADICTIONS and all(
            (reason, note) != (each.reason, each.note) for each in known
        ):
            new = Contradiction(reason, now, self._memory.size, note)
            self._keep(replace(self._memory, contradictions=(*known, new)))

    def _keep(self, memory: Memory) -> None:
        write_atomically(self._path, memory.to_bytes())
        self._memory = memory


def _signed_by(note: str, log: VerifierKey) -> Note:
    """The note under the log's signature alone: what others signed with it is not ours to keep."""
    found = Note.parse(note)
    return Note(found.text, tuple(found.of(log)))


def _memory(stored: bytes | None, key: bytes | None) -> Memory:
    if stored is None:
        if key is not None:
            raise WitnessFileError(f"{MEMORY_FILE} is missing")
        return Memory()
    try:
        memory = Memory.parse(stored)
    except (ValueError, TypeError, KeyError) as error:
        raise WitnessFileError(f"{MEMORY_FILE} is damaged: {type(error).__name__}") from None
    if key is None and memory.root:
        raise WitnessFileError(f"{KEY_FILE} is missing")
    return memory


def _seed(path: Path, stored: bytes | None, name: str) -> bytes:
    if stored is None:
        seed, _ = new_key(name, COSIGNATURE_V1)
        write_atomically(path, seed)
        return seed
    if len(stored) != KEY_BYTES:
        raise WitnessFileError(f"{path.name} is damaged")
    return stored
