"""A guest's own record of break-glass: a chain of receipts, and a signed note of its newest one.

Each receipt names the hash of the one before, so none can be taken out, put in or changed without all later
ones changing. ``hash`` is SHA-256("break-glass receipt v1" ‖ NUL ‖ canonical receipt). The head is a C2SP
signed note under the guest's witness key, as a plain Ed25519 note. Receipts tell what an operator did, never
what a file held.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Self

from protocol.canonical import CanonicalError, canonical
from protocol.enrolment import runtime_dns_name
from protocol.notes import ED25519, NoteError, VerifierKey, decode, encode, sign, verify

FORMAT = "break-glass receipt v1"
EVENTS = frozenset({"granted", "session", "access", "outcome", "refused", "ended"})
START: Final = (0, "0" * 64)
"""Where a chain begins: no receipt yet."""
MAX_RECEIPT_BYTES = 16 * 1024
"""Of one receipt's canonical form; what an operator asks for is bounded so that it fits."""
_FIELDS = {
    *("format", "runtime_id", "seq", "previous", "at", "ticket", "digest", "event", "token", "detail"),
}

Position = tuple[int, str]
"""Number and hash (hex) of a receipt; ``START`` before the first."""


class ReceiptError(ValueError):
    """Receipts that do not hold; the message says what is wrong, and with which one."""


@dataclass(frozen=True)
class Receipt:
    """One well-formed receipt. Alone it proves nothing: see :func:`check_chain`."""

    runtime_id: str
    seq: int
    """From 1."""
    previous: str
    at: int
    """Seconds since 1970 by the guest's clock."""
    ticket: str
    digest: str
    """The ticket's; empty where the guest has never seen the ticket."""
    event: str
    token: str
    """The ``jti`` of the token that came with the request, or empty."""
    detail: Mapping[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        """As it is stored and sent."""
        return {
            "format": FORMAT,
            "runtime_id": self.runtime_id,
            "seq": self.seq,
            "previous": self.previous,
            "at": self.at,
            "ticket": self.ticket,
            "digest": self.digest,
            "event": self.event,
            "token": self.token,
            "detail": dict(self.detail),
        }

    @property
    def text(self) -> str:
        """The canonical form, whose hash it is. Raises ReceiptError: it has none, or is too large."""
        return _canonical(self.document).decode()

    @property
    def hash(self) -> str:
        """In hex. Raises ReceiptError as ``text``."""
        return _hash(_canonical(self.document))

    @property
    def position(self) -> Position:
        """What the next one follows."""
        return self.seq, self.hash

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read a receipt. Raises ReceiptError."""
        if not isinstance(document, Mapping) or document.keys() != _FIELDS:
            raise ReceiptError(f"a receipt must be an object with exactly: {', '.join(sorted(_FIELDS))}")
        _canonical(document)
        if document["format"] != FORMAT or document["event"] not in sorted(EVENTS):
            raise ReceiptError("a receipt of a format or event that is not known here")
        texts = [document[name] for name in ("runtime_id", "previous", "ticket", "digest", "token")]
        if not all(isinstance(text, str) and len(text) <= 128 for text in texts):
            raise ReceiptError("a receipt's names and hashes must be text of up to 128 characters")
        numbers = (document["seq"], document["at"])
        if any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in numbers):
            raise ReceiptError("a receipt's seq and at must be whole numbers")
        if document["seq"] < 1 or not _is_hash(document["previous"]):
            raise ReceiptError("a receipt's seq begins at 1 and previous is 64 hexadecimal digits")
        if not isinstance(document["detail"], Mapping):
            raise ReceiptError("a receipt's detail must be an object")
        return cls(**{name: document[name] for name in _FIELDS - {"format"}})


def following(
    after: Position,
    *,
    runtime_id: str,
    at: int,
    ticket: str,
    digest: str,
    event: str,
    token: str,
    detail: Mapping[str, Any],
) -> Receipt:
    """The receipt that comes after ``after``. Raises ReceiptError: malformed or too large."""
    made = Receipt(runtime_id, after[0] + 1, after[1], at, ticket, digest, event, token, dict(detail))
    return Receipt.parse(made.document)


def check_chain(receipts: Iterable[Any], after: Position, *, runtime_id: str) -> Position:
    """The position of the last of ``receipts``, which must follow ``after`` without a gap.

    ``receipts`` are documents or :class:`Receipt`; none of them leaves ``after`` as it is.

    Raises:
        ReceiptError: malformed, another guest's, a gap, or not the one that the next one names.
    """
    seq, previous = after
    for found in receipts:
        receipt = found if isinstance(found, Receipt) else Receipt.parse(found)
        if receipt.runtime_id != runtime_id:
            raise ReceiptError(f"receipt {receipt.seq} is another guest's")
        if receipt.seq != seq + 1:
            raise ReceiptError(f"receipt {receipt.seq} stands where {seq + 1} must")
        if receipt.previous != previous:
            raise ReceiptError(f"receipt {receipt.seq} does not follow the one before")
        seq, previous = receipt.position
    return seq, previous


def origin(runtime_id: str) -> str:
    """First line of a guest's head notes."""
    return f"{runtime_dns_name(runtime_id)}/break-glass"


def head_note(runtime_id: str, position: Position, seed: bytes) -> str:
    """The guest's signed word on how far its chain goes. ``seed``: its witness key's, 32 bytes."""
    return _note(runtime_id, position, runtime_dns_name(runtime_id), seed)


def head_key(runtime_id: str, witness: str | VerifierKey) -> VerifierKey:
    """The key of head notes, from the verifier key that the guest states as a witness.

    Raises:
        NoteError: malformed, or another guest's.
    """
    stated = witness if isinstance(witness, VerifierKey) else VerifierKey.parse(witness)
    if stated.name != runtime_dns_name(runtime_id):
        raise NoteError("the verifier key is another guest's")
    return VerifierKey(stated.name, ED25519, stated.key)


def open_head(note: str | bytes, key: VerifierKey) -> Position:
    """The position that a head note states, for a key of :func:`head_key`.

    Raises:
        ReceiptError: malformed, another guest's, or not signed by this key.
    """
    try:
        text = verify(note, key).decode()
        lines = text.split("\n")
        if len(lines) != 4 or lines[0] != f"{key.name}/break-glass" or not _is_size(lines[1]):
            raise ReceiptError("a head note has this guest's origin, a number and a hash")
        found = decode(lines[2], "the head's hash")
    except NoteError as error:
        raise ReceiptError(f"the head note: {error}") from None
    position = int(lines[1]), found.hex()
    if len(found) != 32 or (position[0] == 0 and position != START):
        raise ReceiptError("a head note's hash has 32 bytes, all zero before the first receipt")
    return position


def _note(runtime_id: str, position: Position, name: str, seed: bytes) -> str:
    seq, head = position
    text = f"{origin(runtime_id)}\n{seq}\n{encode(bytes.fromhex(head))}\n"
    return f"{text}\n{sign(text, name, seed)}"


def _canonical(document: Mapping[str, Any]) -> bytes:
    try:
        data = canonical(document)
    except CanonicalError as error:
        raise ReceiptError(str(error)) from None
    if len(data) > MAX_RECEIPT_BYTES:
        raise ReceiptError(f"a receipt has {MAX_RECEIPT_BYTES} bytes at most")
    return data


def _hash(data: bytes) -> str:
    return sha256(FORMAT.encode() + b"\0" + data).hexdigest()


def _is_hash(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 16 and str(int(text)) == text
