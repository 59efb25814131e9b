"""What this device has seen of a portal's audit log, and the judgement on what it is shown next.

The device is a witness: it keeps the newest checkpoint, and takes a newer one only with proof that it extends
that. The log's key is taken as it comes at first, or as it was given by hand; the portal never replaces it.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from client import files
from client.errors import Failure, Refused, WrongAnswer
from client.portal import Portal
from client.reading import take
from client.screen import plain
from protocol.checkpoints import Checkpoint, opened, parse_hash_lines
from protocol.merkle import ProofError, verify_consistency
from protocol.notes import NoteError, VerifierKey

FILE = "log.json"
EVIDENCE = "log-evidence-{}.json"
"""With the beginning of its own SHA-256."""


class Contradiction(Failure):
    """The log that the portal shows is not the one that this device has seen."""


@dataclass(frozen=True)
class Seen:
    """The newest checkpoint that this device believes, and the key that it is signed with."""

    key: VerifierKey
    note: str
    """With all signatures under it."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What it says. Raises NoteError: the key did not sign it."""
        return opened(self.note, self.key)


class Memory:
    """The file, below one portal's address."""

    def __init__(self, folder: Path, portal: str) -> None:
        self._folder, self._portal = folder, portal

    def get(self) -> Seen | None:
        """What was seen last. Raises Failure: the file is damaged."""
        found = self._all().get(self._portal)
        if found is None:
            return None
        try:
            seen = Seen(VerifierKey.parse(found["key"]), str(found["checkpoint"]))
            seen.checkpoint  # noqa: B018 - it must be readable
        except (NoteError, KeyError, TypeError, AttributeError):
            raise self._damaged() from None
        return seen

    def put(self, seen: Seen, *, whatever: bool = False) -> None:
        """Remember ``seen``, unless more is remembered already; with ``whatever`` in any case."""
        with files.alone(self._folder):
            kept = self.get()
            if kept is not None and not whatever and kept.checkpoint.size >= seen.checkpoint.size:
                return
            told = {"key": str(seen.key), "checkpoint": seen.note}
            everything = {**self._all(), self._portal: told}
            files.replace(self._folder / FILE, json.dumps(everything, indent=1).encode() + b"\n")

    def keep_evidence(self, seen: Seen, shown: str) -> Path:
        """Put two checkpoints that contradict each other beside each other, for people to look at.

        In a new file each time: a portal that was caught and then tells another lie must not wipe the proof
        of the first with it.
        """
        document = {"key": str(seen.key), "seen": seen.note, "shown": shown}
        raw = json.dumps(document, indent=1).encode() + b"\n"
        digest = sha256(raw).hexdigest()[:16]
        with files.alone(self._folder):
            # The same again is kept already; what a crash has cut short is not the same.
            for number in count(1):
                path = self._folder / EVIDENCE.format(digest if number == 1 else f"{digest}-{number}")
                if not os.path.lexists(path):
                    files.create(path, raw)
                    return path
                if files.read(path) == raw:
                    return path
        raise AssertionError("counting has no end")

    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads(files.read(self._folder / FILE))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._damaged()
        return found

    def _damaged(self) -> Failure:
        path = self._folder / FILE
        return Failure(f"{path} is damaged. Restore it; without it this device starts to trust anew.")


class Log:
    """The log as this device follows it."""

    def __init__(self, memory: Memory, portal: Portal, slug: str) -> None:
        self._memory, self._portal, self._slug = memory, portal, slug

    def follow(self) -> tuple[Seen, str]:
        """The newest checkpoint, once it extends what was seen; and how far that could be checked.

        Raises:
            Contradiction: it does not.
        """
        seen = self._memory.get()
        if seen is None:
            return self._first()
        new = self._newer(seen)
        self._memory.put(new)
        grown = new.checkpoint.size - seen.checkpoint.size
        told = f"with {grown} more behind it" if grown else "and nothing behind it"
        return new, f"It is the log that this device has seen, {told}."

    def fits(self, seen: Seen, note: str) -> Checkpoint:
        """That another checkpoint is of the same log as ``seen``, before or after it.

        Raises:
            Contradiction: it is not.
        """
        other = self._opened(seen, note)
        old, new = sorted((seen.checkpoint, other), key=lambda one: one.size)
        if old != new:
            told = self._asked(seen, lambda: self._portal.log_consistency(self._slug, old.size, new.size))
            self._check(seen, note, old, new, take(told, "proof", str))
        return other

    def _first(self) -> tuple[Seen, str]:
        told = self._portal.log_head(self._slug)
        try:
            seen = Seen(VerifierKey.parse(take(told, "key", str)), take(told, "checkpoint", str))
            seen.checkpoint  # noqa: B018 - it must be signed with that key
        except NoteError as error:
            raise WrongAnswer(f"The portal shows a log that is not signed with its key: {error}.") from None
        self._memory.put(seen)
        return (
            seen,
            "This device sees the log for the first time: compare its key with what others see (record pin).",
        )

    def _newer(self, seen: Seen) -> Seen:
        old = seen.checkpoint
        told = self._asked(seen, lambda: self._portal.log_consistency(self._slug, old.size))
        note = take(told, "checkpoint", str)
        new = self._opened(seen, note)
        if new.size < old.size:
            self._contradicts(seen, note, f"ROLLED BACK from {old.size} to {new.size} entries")
        self._check(seen, note, old, new, take(told, "proof", str))
        return Seen(seen.key, note)

    def _asked(self, seen: Seen, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Refused as refusal:
            if refusal.code in {"unknown_size", "unknown_checkpoint", "no_checkpoint_yet"}:
                self._contradicts(
                    seen, "", f"ROLLED BACK: the portal knows no {seen.checkpoint.size} entries"
                )
            raise

    def _opened(self, seen: Seen, note: str) -> Checkpoint:
        try:
            return opened(note, seen.key)
        except NoteError as error:
            self._contradicts(seen, note, f"SIGNED BY ANOTHER KEY ({plain(str(error))})")

    def _check(self, seen: Seen, note: str, old: Checkpoint, new: Checkpoint, proof: str) -> None:
        try:
            verify_consistency(old.size, new.size, parse_hash_lines(proof), old.root, new.root)
        except (NoteError, ProofError):
            self._contradicts(
                seen, note, f"FORKED: its {new.size} entries do not begin with the {old.size} seen before"
            )

    def _contradicts(self, seen: Seen, shown: str, what: str) -> NoReturn:
        kept = self._memory.keep_evidence(seen, shown)
        # So that an honest operator, who has restored an old backup, say, hears of it.
        with suppress(Failure):
            self._portal.log_dispute(self._slug, seen.note)
        raise Contradiction(
            f"WARNING: the audit log is {what}. Somebody has rewritten the record, or shows you another one. "
            f"Both checkpoints are in {kept}: keep it, and show it to the other owners."
        )
