"""This guest as a witness of the audit log: it keeps the newest checkpoint and signs only what extends it.

The log's key is the one that the first papers named. Later papers replace it as little as they replace the
pinned keyring: a log under another key is refused, and the status says so. What is signed is on the disk
before anybody gets the signature, so at no moment does a stop make it forget what it has vouched for.

Formats: C2SP tlog-witness, tlog-cosignature and tlog-checkpoint (:mod:`protocol.witnessing`).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from guest.agent.files import FileDamaged, make_private_folder, read_optional, write_atomically
from guest.agent.witness_memory import Memory
from protocol.checkpoints import cosign
from protocol.enrolment import runtime_dns_name
from protocol.notes import COSIGNATURE_V1, KEY_BYTES, Note, NoteError, VerifierKey, new_key, vkey_of
from protocol.witnessing import Refused, Request, judge

KEY_FILE = "witness.key"
MEMORY_FILE = "witness.json"
SIGNED_BY_THE_LOG = frozenset({"smaller", "stale", "forked", "proof"})
"""Why a checkpoint was refused that the log itself had signed, so that it says something about the log."""


class WitnessFileError(FileDamaged):
    """A file of this module is damaged or missing. A fresh one would sign a second history."""


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
    def seed(self) -> bytes:
        """Of the signing key, for the head of the receipts of break-glass (protocol.access_receipts)."""
        return self._seed

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
            accepted = judge(self._memory.state, request, log)
        except Refused as refusal:
            if refusal.reason in SIGNED_BY_THE_LOG:
                shown = _signed_by(request.note, log).to_text()
                self._keep(self._memory.refusing(refusal.reason, shown, now))
            return self._refused(refusal.reason)
        line = cosign(request.note, self._name, self._seed, now)
        note = _signed_by(request.note, log).signed_also(line).to_text()
        self._keep(self._memory.accepting(accepted, note, now))
        return {"verdict": "signed", "size": accepted.size, "cosignature": line}

    def saw(self) -> None:
        """An owner has seen what contradicts the record, and the doubts. They stay."""
        self._keep(self._memory.all_seen())

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
            "doubts": len(memory.doubts),
        }

    def shown(self) -> dict[str, Any]:
        """What members see: also the checkpoint itself, and what the log showed beside it."""
        return self.statement() | self._memory.shown()

    def _refused(self, reason: str) -> dict[str, Any]:
        return {"verdict": "refused", "reason": reason, "size": self._memory.size}

    def _keep(self, memory: Memory) -> None:
        # Every refusal comes by here: what changes nothing writes nothing.
        if memory != self._memory or not self._path.exists():
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
