"""Reads what guests state. A guest is its tenant's, so each value is checked before it is kept."""

import re
from typing import Any

_HASH = re.compile(r"[0-9a-f]{64}")


def number(value: Any, least: int = 0) -> int:
    """A whole number from ``least`` that a column holds. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise ValueError
    return value


def hash_text(value: Any) -> str:
    """A SHA-256, or a key of as many bytes, in hex. Raises ValueError."""
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError
    return value
