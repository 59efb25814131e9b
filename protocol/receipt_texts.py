"""Names and words in a guest's receipts, so that they stay what was served, byte for byte.

A receipt is canonical JSON, and that is NFC: a name that is spelled otherwise would become the name of
another file. Hidden characters would let a name look like another one. So a text with either is written as in
a JSON string, in ASCII alone (``e\\u0301``; a backslash is ``\\\\``), and ``escaped`` lists the members so
written.
"""

import json
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

ESCAPED: Final = "escaped"
"""The member of a receipt's ``detail`` with the names of those that are escaped, sorted. Absent: none is."""


def written(about: Mapping[str, Any]) -> dict[str, Any]:
    """``about`` (texts, lists of texts, and other values, which stay) as the detail of a receipt."""
    escaped = sorted(name for name, value in about.items() if _must_be_escaped(_texts(value)))
    told = {name: _each(value, _escape) if name in escaped else value for name, value in about.items()}
    return told | {ESCAPED: escaped} if escaped else told


def exact(detail: Mapping[str, Any], name: str) -> Any:
    """What the member ``name`` was before it was written; None if it is missing.

    Raises:
        ValueError: it is said to be escaped and is not.
    """
    listed = detail.get(ESCAPED, ())
    value = detail.get(name)
    return _each(value, _read) if isinstance(listed, list | tuple) and name in listed else value


def _texts(value: Any) -> list[str]:
    return [each for each in (value if isinstance(value, list | tuple) else [value]) if isinstance(each, str)]


def _each(value: Any, deed: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_each(each, deed) for each in value]
    return deed(value) if isinstance(value, str) else value


def _must_be_escaped(texts: list[str]) -> bool:
    """Half a surrogate pair is no text, and no receipt can hold it: it stays, and is refused."""
    return any(map(_differs, texts)) and not any("\ud800" <= each <= "\udfff" for each in "".join(texts))


def _differs(text: str) -> bool:
    return not text.isprintable() or unicodedata.normalize("NFC", text) != text


def _escape(text: str) -> str:
    return json.dumps(text)[1:-1].replace("\x7f", "\\u007f")


def _read(text: str) -> str:
    return str(json.loads(f'"{text}"'))
