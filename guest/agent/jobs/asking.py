"""What a member may ask for, read strictly from what came."""

import json
import re
import uuid
from typing import Any

from guest.agent.answers import BadRequest
from guest.agent.jobs.records import Asked, Kind
from guest.launcher.wire import Refused, checked_argv

DEFAULT_SECONDS = 3600
MAX_SECONDS = 7 * 24 * 3600
MAX_TEXT_BYTES = 32 * 1024
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORK = {Kind.COMMAND: "argv", Kind.MESSAGE: "text"}


def parse(body: bytes) -> Asked:
    """The job that ``body`` asks for; it gets an id if it has none. Raises BadRequest."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    kinds = " or ".join(Kind)
    if not isinstance(document, dict) or document.get("kind") not in tuple(Kind):
        raise BadRequest(f"the body must be an object whose kind is {kinds}")
    kind = Kind(document["kind"])
    needed, more = {"kind", _WORK[kind]}, {"id", "seconds"}
    if not needed <= document.keys() <= needed | more:
        raise BadRequest(f"a {kind} has kind and {_WORK[kind]}, and may have id and seconds")
    name = checked_id(document.get("id", str(uuid.uuid4())))
    seconds = _seconds(document.get("seconds", DEFAULT_SECONDS))
    if kind is Kind.COMMAND:
        return Asked(name, kind, argv=_argv(document["argv"]), seconds=seconds)
    return Asked(name, kind, text=_text(document["text"]), seconds=seconds)


def checked_id(value: Any) -> str:
    """Raises BadRequest."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise BadRequest("id must be a UUID in lower case")
    return value


def _seconds(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_SECONDS:
        raise BadRequest(f"seconds must be a whole number from 1 to {MAX_SECONDS}")
    return value


def _argv(value: Any) -> tuple[str, ...]:
    try:
        return checked_argv(value)
    except Refused as refusal:
        raise BadRequest(str(refusal)) from None


def _text(value: Any) -> str:
    try:
        if isinstance(value, str) and value.strip() and len(value.encode()) <= MAX_TEXT_BYTES:
            return value
    except UnicodeEncodeError:
        pass
    raise BadRequest(f"text must be a text of 1 to {MAX_TEXT_BYTES} bytes")
