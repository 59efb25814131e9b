"""Canonical JSON: one byte string for one document, on both sides of the boundary.

Rules (DESIGN §4): keys sorted, no spaces, UTF-8 in NFC, integers only. Floats are refused because
two languages print them differently; duplicate keys cannot arise from a Python mapping.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8259 §6)."""
MAX_DEPTH = 32
"""Objects and lists in one another; no document of ours comes near it."""


class CanonicalError(ValueError):
    """The document has no canonical form; the message names the place and the reason."""


def canonical(document: Any) -> bytes:
    """Return the canonical bytes of ``document`` (dicts, lists, str, int, bool, None).

    Raises:
        CanonicalError: a float, a key that is not text, an integer beyond ±(2⁵³-1), two keys that
            become one under NFC, text that is not valid Unicode, or more than ``MAX_DEPTH`` levels.
    """
    try:
        return json.dumps(
            _normal(document, "$", MAX_DEPTH), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode("utf-8")
    except UnicodeEncodeError as error:
        raise CanonicalError(f"text that is not valid Unicode: {error.reason}") from None


def _normal(value: Any, where: str, levels: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise CanonicalError(f"{where}: integer beyond 2^53-1")
        return int(value)
    if levels == 0:
        raise CanonicalError(f"more than {MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        return _normal_mapping(value, where, levels - 1)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_normal(item, f"{where}[{index}]", levels - 1) for index, item in enumerate(value)]
    raise CanonicalError(f"{where}: {type(value).__name__} has no canonical form")


def _normal_mapping(value: Mapping[Any, Any], where: str, levels: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise CanonicalError(f"{where}: a key is not text")
        name = unicodedata.normalize("NFC", key)
        if name in result:
            raise CanonicalError(f"{where}: two keys become {name!r} under NFC")
        result[name] = _normal(item, f"{where}.{name}", levels)
    return result
