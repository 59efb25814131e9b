"""A receipt: one entry's event, the proof of its place in the log, and the personal data that it commits to.

The proof is a C2SP tlog-proof: a line ``index N``, the inclusion proof, an empty line, and the checkpoint's
note with the cosignatures of witnesses. Whoever holds the log's public key checks it without the log.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

from protocol.canonical import CanonicalError, canonical
from protocol.checkpoints import (
    Checkpoint,
    check_cosignature,
    hash_lines,
    opened,
    parse_hash_lines,
    parse_size,
)
from protocol.merkle import ProofError, leaf_hash, verify_inclusion
from protocol.notes import MAX_NOTE_BYTES, Note, NoteError, VerifierKey
from protocol.personal import SALT_BYTES, commitment

FORMAT = "portal receipt v1"
PROOF_FORMAT = "c2sp.org/tlog-proof@v1"
MAX_RECEIPT_BYTES = 1024 * 1024
MAX_EVENT_BYTES = 60_000
MAX_OPENINGS = 100


class ReceiptError(ValueError):
    """A receipt that must not be believed; the message says why."""


@dataclass(frozen=True)
class Proof:
    """That the entry at ``index`` is in the tree of a checkpoint."""

    index: int
    hashes: tuple[bytes, ...]
    note: str
    """The checkpoint with its signatures."""

    def to_text(self) -> str:
        """As C2SP writes it."""
        return f"{PROOF_FORMAT}\nindex {self.index}\n{hash_lines(self.hashes)}\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a proof. Raises NoteError: malformed or too large."""
        head, gap, note = text.partition("\n\n")
        first, _, rest = head.partition("\n")
        second, _, lines = rest.partition("\n")
        if second.startswith("extra "):  # an application's own data, which ours has not
            second, _, lines = lines.partition("\n")
        if first != PROOF_FORMAT or not second.startswith("index ") or not gap:
            raise NoteError(f"a proof begins with {PROOF_FORMAT} and its index, and ends in a checkpoint")
        if len(text) > 2 * MAX_NOTE_BYTES:
            raise NoteError("the proof is too large")
        hashes = parse_hash_lines(f"{lines}\n" if lines else "", 63)
        return cls(parse_size(second.removeprefix("index ")), hashes, note)


@dataclass(frozen=True)
class Opening:
    """One personal datum and its salt: what a commitment in the event stands for."""

    commitment: str
    """64 hex digits, as in the event."""
    salt: bytes
    kind: str
    value: str

    def to_dict(self) -> dict[str, str]:
        """As it stands in the receipt: bytes in hex."""
        return {
            "commitment": self.commitment,
            "salt": self.salt.hex(),
            "kind": self.kind,
            "value": self.value,
        }

    @classmethod
    def of(cls, document: Any) -> Self:
        """From the receipt's JSON. Raises ReceiptError."""
        values = [_text(document, name) for name in ("commitment", "salt", "kind", "value")]
        try:
            salt = bytes.fromhex(values[1])
        except ValueError:
            raise ReceiptError("a salt is 64 hex digits") from None
        if len(salt) != SALT_BYTES:
            raise ReceiptError("a salt is 64 hex digits")
        return cls(values[0], salt, values[2], values[3])


@dataclass(frozen=True)
class Receipt:
    """One entry with its proof. Parsing proves nothing: see :func:`check`."""

    event: str
    """The entry's text, as the log stores it."""
    proof: Proof
    personal: tuple[Opening, ...] = ()

    def to_json(self) -> str:
        """The document, on one line."""
        document = {
            "format": FORMAT,
            "event": self.event,
            "proof": self.proof.to_text(),
            "personal": [opening.to_dict() for opening in self.personal],
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read a document. Raises ReceiptError: not this format, malformed or too large."""
        if len(text) > MAX_RECEIPT_BYTES:
            raise ReceiptError(f"a receipt has {MAX_RECEIPT_BYTES} bytes at most")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise ReceiptError("the receipt is not JSON") from None
        if _text(document, "format") != FORMAT:
            raise ReceiptError(f"this is no {FORMAT}")
        personal = document.get("personal", [])
        if not isinstance(personal, list) or len(personal) > MAX_OPENINGS:
            raise ReceiptError(f"personal is a list of {MAX_OPENINGS} at most")
        try:
            proof = Proof.parse(_text(document, "proof"))
        except NoteError as error:
            raise ReceiptError(str(error)) from None
        return cls(_text(document, "event"), proof, tuple(map(Opening.of, personal)))


@dataclass(frozen=True)
class Checked:
    """What a receipt has proved."""

    index: int
    """The entry's place in the log, from 0."""
    checkpoint: Checkpoint
    event: dict[str, Any]
    personal: tuple[Opening, ...]
    cosigned: dict[str, int]
    """Each witness that was asked for, with the time of its cosignature in seconds since 1970."""

    @property
    def size(self) -> int:
        """Leaves in the checkpoint's tree."""
        return self.checkpoint.size

    @property
    def roles(self) -> list[tuple[str, Opening]]:
        """Each personal datum with its role in the event. Both are the log's text: escape them when shown."""
        return list(zip(roles(self.personal, self.event), self.personal, strict=True))


def check(receipt: Receipt, log_vkey: VerifierKey, witnesses: Collection[VerifierKey] = ()) -> Checked:
    """Recompute the leaf from the event, follow the proof to the signed root, and open the commitments.

    Args:
        witnesses: all of these must have cosigned.

    Raises:
        ReceiptError: something does not fit.
    """
    try:
        note = Note.parse(receipt.proof.note)
        checkpoint = opened(note, log_vkey)
        cosigned = {witness.name: check_cosignature(note, witness) for witness in witnesses}
    except NoteError as error:
        raise ReceiptError(str(error)) from None
    event = check_in(receipt, checkpoint)
    return Checked(receipt.proof.index, checkpoint, event, receipt.personal, cosigned)


def check_in(receipt: Receipt, checkpoint: Checkpoint) -> dict[str, Any]:
    """As :func:`check` for a checkpoint whose signatures are known to fit. Raises ReceiptError."""
    proof = receipt.proof
    try:
        raw = receipt.event.encode()
        verify_inclusion(leaf_hash(raw), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    except UnicodeError:
        raise ReceiptError("the event is not valid Unicode") from None
    except ProofError as error:
        raise ReceiptError(str(error)) from None
    event = read_event(raw)
    roles(receipt.personal, event)
    return event


def read_event(raw: bytes) -> dict[str, Any]:
    """The event of a leaf's bytes. Raises ReceiptError: not the canonical JSON of an object, or too large."""
    if len(raw) > MAX_EVENT_BYTES:
        raise ReceiptError(f"an event has {MAX_EVENT_BYTES} bytes at most")
    try:
        event = json.loads(raw)
        if not isinstance(event, dict) or canonical(event) != raw:
            raise ReceiptError("the event is not a canonical JSON object")
    except (ValueError, RecursionError) as error:
        if isinstance(error, ReceiptError):
            raise
        raise ReceiptError("the event is not canonical JSON") from None
    return event


def roles(openings: Sequence[Opening], event: dict[str, Any]) -> list[str]:
    """What each opening is in the event: the role under which ``personal`` has its commitment.

    Nowhere else: text elsewhere in an event may be another's, who could then choose what it stands for.

    Raises:
        ReceiptError: the event has no such commitment, or the datum is not what it commits to.
    """
    personal = event.get("personal")
    known: dict[str, list[str]] = {}
    for role, text in personal.items() if isinstance(personal, dict) else ():
        if isinstance(text, str):
            known.setdefault(text, []).append(role)
    return [_role(opening, known) for opening in openings]


def _role(opening: Opening, known: dict[str, list[str]]) -> str:
    if opening.commitment not in known:
        raise ReceiptError(f"the event's personal holds no commitment to this {opening.kind!r}")
    try:
        recomputed = commitment(opening.salt, opening.kind, opening.value).hex()
    except CanonicalError as error:
        raise ReceiptError(str(error)) from None
    if recomputed != opening.commitment:
        raise ReceiptError(f"the {opening.kind!r} is not what the event has committed to")
    return ", ".join(known[opening.commitment])


def _text(document: Any, name: str) -> str:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, str):
        raise ReceiptError(f"{name} is missing or not text")
    return value
