"""Lines of JSON in which no name stands twice, and their members."""

import json
from typing import Any

from protocol.receipts import MAX_RECEIPT_BYTES
from protocol.verify.outcome import VerificationError

MAX_LINE_BYTES = MAX_RECEIPT_BYTES


def object_of(line: bytes, where: str) -> dict[str, Any]:
    """A line's JSON object, in which no name stands twice. Raises VerificationError."""
    try:
        document = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise VerificationError(f"{where} is not JSON, or is cut short") from None
    if not isinstance(document, dict):
        raise VerificationError(f"{where} is no JSON object")
    return document


def member(document: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """Member ``name``, which must be of ``kind``. Raises VerificationError."""
    value = document.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise VerificationError(f"{where}: {name} is missing or of the wrong kind")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError
    return document
