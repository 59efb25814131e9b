"""What of an entry can be searched for: its words, folded so that both databases keep them verbatim.

Structured facts become words with a sign in front (``a=tenant.created``), so that one index answers every
combination of filters. The columns and the event stay the truth: a word only leads to them.
"""

import json
import logging
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from audit.models import Entry

WORD_LENGTH = 64
"""Characters of a word that count; longer ones are cut, in the index as in a question."""
PREFIX_LENGTH = 3
"""From this length on a word that was typed also finds longer words that begin with it."""
_COMPOUND = re.compile(r"\w(?:[\w.:\-/@+]*\w)?")
_PART = re.compile(r"[^\W_]+")
_log = logging.getLogger(__name__)
_STRANGE = re.compile(r"[^0-9a-z_.:\-/@+=]")


def sign(kind: str, value: object) -> str:
    """The word for a fact: ``a`` action, ``g`` its group, ``t`` tenant, ``u`` actor, ``o`` target…"""
    return _plain(f"{kind}={value}")


def words_of(entry: Entry) -> list[str]:
    """Every word of an entry, sorted, each once. One whose event cannot be read has those of its columns."""
    try:
        return _words(entry, _event(entry))
    except Exception:  # whatever somebody put there: one row must not end the index, or a search
        _log.exception("The event of entry %s cannot be read.", entry.pk)
        return _words(entry, {})


def _words(entry: Entry, event: dict[str, Any]) -> list[str]:
    found = set(_signs(entry, event))
    for text in _texts(event):
        found |= _split(text)
    return sorted(found)


def asked(text: str) -> list[str]:
    """The words of what a person typed, as they stand in the index; all of them must be found."""
    return sorted({_plain(match) for match in _COMPOUND.findall(_fold(text)) if match})


def matches(entry: Entry, words: list[str]) -> bool:
    """Whether an entry that is not indexed yet has all these words, by the index's rules."""
    there = words_of(entry)
    return all(any(_finds(word, other) for other in there) for word in words)


def is_prefix(word: str) -> bool:
    """Whether a typed word also stands for longer ones."""
    return len(word) >= PREFIX_LENGTH


def _finds(word: str, other: str) -> bool:
    return other.startswith(word) if is_prefix(word) else other == word


def _signs(entry: Entry, event: dict[str, Any]) -> Iterator[str]:
    yield sign("a", entry.action)
    yield sign("g", entry.action.partition(".")[0])
    yield sign("k", entry.actor_kind)
    yield sign("u", f"{entry.actor_kind}:{entry.actor_id}")
    if entry.tenant_id:
        yield sign("t", entry.tenant_id)
    if entry.target_type:
        yield sign("o", entry.target_type)
        yield sign("o", f"{entry.target_type}:{entry.target_id}")
    if entry.target_id:
        yield sign("i", entry.target_id)
    if entry.request_id:
        yield sign("r", entry.request_id)
    personal = event.get("personal")
    for commitment in personal.values() if isinstance(personal, dict) else ():
        yield sign("p", commitment)


def _event(entry: Entry) -> dict[str, Any]:
    """The event; nothing where its body stands in an archive, or is no longer what was written."""
    try:
        found = json.loads(entry.event)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _texts(event: dict[str, Any]) -> Iterator[str]:
    """What free text is looked for in: action, target, task, session and the data."""
    yield str(event.get("action", ""))
    yield from _leaves(event.get("target"))
    yield from (str(event.get(name, "")) for name in ("task", "session"))
    yield from _leaves(event.get("data"))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield str(value)


def _split(text: str) -> set[str]:
    """``tenant.created`` is found whole and by either half."""
    found: set[str] = set()
    for compound in _COMPOUND.findall(_fold(text)):
        found.add(_plain(compound))
        if len(compound) < 32:  # the parts of identifiers and digests find nothing that anybody looks for
            found.update(_plain(part) for part in _PART.findall(compound))
    return found - {""}


def _fold(text: str) -> str:
    """Without case and accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text).lower() if not unicodedata.combining(c))


def _plain(word: str) -> str:
    """ASCII that both databases take as one word; other letters as their numbers."""
    ascii_ = word.lower().encode("ascii", "backslashreplace").decode("ascii")
    return _STRANGE.sub("_", ascii_)[:WORD_LENGTH]
