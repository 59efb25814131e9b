"""The members of a ticket, each read and checked: what :meth:`protocol.tickets.Ticket.parse` is made of."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocol.persons import PersonKey, passkey_of

FORMAT = "break-glass ticket v1"
KINDS = frozenset({"ordinary", "emergency"})
SCOPES = ("exec", "logs:read", "status", "workspace:read", "workspace:write")
"""Sorted, as a ticket lists them."""
EMERGENCY_SCOPES = frozenset({"logs:read", "status", "workspace:read"})
WHOLE_WORKSPACE = ""
MIN_SECONDS, MAX_SECONDS, DEFAULT_SECONDS, MAX_EMERGENCY_SECONDS = 60, 4 * 3600, 1800, 900
MAX_WAIT_SECONDS = 4 * 3600
CLOCK_LEEWAY_SECONDS = 60
"""How far ahead of the guest's clock ``asked_at`` may be."""
MIN_REASON, MAX_REASON, MAX_INCIDENT, MAX_NAME = 20, 2000, 500, 80
MAX_PATHS = 32
MAX_PATHS_BYTES = 1024
"""All paths together, in UTF-8: each token names them."""
MAX_GRANT_BYTES = 60 * 1024
FIELDS = {
    *("format", "ticket", "revision", "kind", "tenant_id", "runtime_id", "requester", "reason", "incident"),
    *("scopes", "paths", "seconds", "asked_at", "wait_until", "approvers", "nonce"),
}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HASH = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"[0-9a-f]{32}")
_URL = re.compile(r"https?://[!-~]+")
_DECEIVING = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Characters that turn round, break or hide what an approver reads."""


class TicketRefused(ValueError):
    """A ticket that must not be made, signed or believed; the message names what to change.

    ``code`` is for machines.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Requester:
    """Who asks, and with which passkey."""

    person: str
    """``user:<number>``, as approvers are named."""
    name: str
    key: PersonKey


def check_names(document: Mapping[str, Any]) -> None:
    """The UUIDs and the nonce."""
    for name in ("ticket", "tenant_id", "runtime_id"):
        _matching(document, name, _UUID, "a UUID in lower case")
    _matching(document, "nonce", _NONCE, "32 hexadecimal digits")


def kind_of(document: Mapping[str, Any]) -> str:
    kind = document["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise malformed("kind must be ordinary or emergency")
    return kind


def scopes_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    scopes = _texts(document, "scopes")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise malformed(f"scopes must be one or more of {', '.join(SCOPES)}")
    if "workspace:write" in scopes and "workspace:read" not in scopes:
        raise malformed("who may write must be able to read: add workspace:read")
    return scopes


def paths_of(document: Mapping[str, Any], scopes: tuple[str, ...]) -> tuple[str, ...]:
    paths = _texts(document, "paths")
    if len(paths) > MAX_PATHS or sum(len(path.encode()) for path in paths) > MAX_PATHS_BYTES:
        raise malformed(f"at most {MAX_PATHS} paths, of {MAX_PATHS_BYTES} bytes together")
    if "exec" in scopes:
        if paths != (WHOLE_WORKSPACE,):
            raise malformed("exec reaches the whole workspace: its only path is the empty one")
        return paths
    if not any(scope.startswith("workspace:") for scope in scopes):
        if paths:
            raise malformed("paths need a workspace scope: leave them out")
        return paths
    if not paths:
        raise malformed("a workspace scope needs a path")
    if paths != (WHOLE_WORKSPACE,) and not all(is_plain(path) and _is_clear(path) for path in paths):
        raise malformed(
            "a path is relative, without empty segments, . or .., and without control characters; "
            "the whole workspace is the empty path alone"
        )
    return paths


def is_plain(path: str) -> bool:
    return "\0" not in path and not {"", ".", ".."} & set(path.split("/"))


def _is_clear(text: str, *, lines: bool = False) -> bool:
    """Whether an approver reads what is signed: NFC, nothing that hides or turns the text."""
    plain = text.replace("\n", " ").replace("\t", " ") if lines else text
    hidden = any(unicodedata.category(character) in {"Cc", "Cs"} for character in plain)
    return not hidden and not _DECEIVING.search(text) and unicodedata.normalize("NFC", text) == text


def _texts(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Sorted by code point, without repetition: one list, one spelling."""
    found = document[name]
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise malformed(f"{name} must be a list of text")
    if found != sorted(set(found)):
        raise malformed(f"{name} must be sorted and name nothing twice")
    return tuple(found)


def times_of(document: Mapping[str, Any]) -> tuple[int, int, int]:
    seconds = whole(document, "seconds", MIN_SECONDS, MAX_SECONDS)
    asked_at = whole(document, "asked_at", 1, 2**40)
    wait_until = whole(document, "wait_until", asked_at + 1, asked_at + MAX_WAIT_SECONDS)
    return seconds, asked_at, wait_until


def check_emergency(kind: str, scopes: tuple[str, ...], seconds: int) -> None:
    if kind != "emergency":
        return
    if not set(scopes) <= EMERGENCY_SCOPES:
        raise malformed("an emergency only reads: leave out workspace:write and exec")
    if seconds > MAX_EMERGENCY_SECONDS:
        raise malformed(f"an emergency lasts {MAX_EMERGENCY_SECONDS} seconds at most")


def set_of(document: Mapping[str, Any]) -> tuple[int, str]:
    found = document["approvers"]
    if not isinstance(found, Mapping) or found.keys() != {"version", "hash"}:
        raise malformed("approvers must be an object with exactly: hash, version")
    _matching(found, "hash", _HASH, "64 hexadecimal digits")
    return whole(found, "version", 1, 2**31 - 1), str(found["hash"])


def requester_of(found: Any) -> Requester:
    if not isinstance(found, Mapping) or found.keys() != {"person", "name", "key"}:
        raise malformed("requester must be an object with exactly: key, name, person")
    for name in ("person", "name"):
        text = found[name]
        if not isinstance(text, str) or not 0 < len(text) <= MAX_NAME or not _is_clear(text):
            raise malformed(f"requester.{name} must be text of 1 to {MAX_NAME} characters")
    try:
        key = passkey_of(found["key"])
    except ValueError as error:
        raise malformed(f"requester.key must be a passkey's SubjectPublicKeyInfo: {error}") from None
    return Requester(found["person"], found["name"], key)


def reason_of(document: Mapping[str, Any]) -> str:
    reason = document["reason"]
    fits = isinstance(reason, str) and len(reason) <= MAX_REASON and len(reason.strip()) >= MIN_REASON
    if not fits or not _is_clear(reason, lines=True):
        raise malformed(f"reason must be plain text of {MIN_REASON} to {MAX_REASON} characters")
    return str(reason)


def incident_of(document: Mapping[str, Any]) -> str:
    incident = document["incident"]
    if not isinstance(incident, str) or len(incident) > MAX_INCIDENT:
        raise malformed(f"incident must be text of up to {MAX_INCIDENT} characters")
    if incident and not _URL.fullmatch(incident):
        raise malformed("incident must be empty or a link with http or https")
    return incident


def whole(document: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = document[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise malformed(f"{name} must be a whole number from {low} to {high}")
    return value


def _matching(document: Mapping[str, Any], name: str, form: re.Pattern[str], words: str) -> None:
    value = document[name]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise malformed(f"{name} must be {words}")


def malformed(message: str) -> TicketRefused:
    return TicketRefused("malformed", message)
