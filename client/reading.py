"""Members of a document that somebody else sent, each checked before it is used."""

import re
from typing import Any, TypeVar

from client.errors import WrongAnswer

T = TypeVar("T")
HASH = re.compile(r"[0-9a-f]{64}")


def take(document: Any, name: str, kind: type[T]) -> T:
    """Member ``name``, which must be of ``kind``. Raises WrongAnswer."""
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise WrongAnswer(f"An answer cannot be understood: “{name}” is missing or of another kind.")
    return value


def optional(document: Any, name: str, kind: type[T]) -> T | None:
    """The same, where null or nothing at all is an answer too. Raises WrongAnswer."""
    if isinstance(document, dict) and document.get(name) is None:
        return None
    return take(document, name, kind)


def objects(document: Any, name: str) -> list[dict[str, Any]]:
    """A list of objects. Raises WrongAnswer."""
    found = take(document, name, list)
    if not all(isinstance(entry, dict) for entry in found):
        raise WrongAnswer(f"An answer cannot be understood: “{name}” is no list of objects.")
    return found


def hash_of(document: Any, name: str) -> str:
    """A SHA-256 in hex. Raises WrongAnswer."""
    value = take(document, name, str)
    if not HASH.fullmatch(value):
        raise WrongAnswer(f"An answer cannot be understood: “{name}” is no SHA-256.")
    return value
