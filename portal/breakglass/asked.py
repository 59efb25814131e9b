"""The form of a ticket: from what a browser sends to what a ticket says, with words beside each field."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from protocol import tickets
from protocol.tickets import WHOLE_WORKSPACE

WORKSPACE = frozenset({"workspace:read", "workspace:write", "exec"})
"""Scopes that name paths."""


class FormRefused(Exception):
    """What the form holds is no ticket; ``fields`` says beside each field what to change."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("Nothing was sent: look at the marked fields.")
        self.fields = dict(fields)


@dataclass(frozen=True)
class Asked:
    """What a requester asks for."""

    kind: str
    reason: str
    incident: str
    scopes: list[str]
    paths: list[str]
    seconds: int

    @classmethod
    def of(cls, form: QueryDict) -> "Asked":
        """From a posted form. Raises FormRefused."""
        kind = "emergency" if form.get("kind") == "emergency" else "ordinary"
        scopes = _scopes(form.getlist("scopes"))
        asked = cls(
            kind=kind,
            reason=_text(form.get("reason", "")),
            incident=_text(form.get("incident", "")),
            scopes=scopes,
            paths=_paths(form) if WORKSPACE & set(scopes) else [],
            seconds=_seconds(form.get("minutes", "")),
        )
        wrong = {name: words for name, words in asked._wrong() if words}
        if wrong:
            raise FormRefused(wrong)
        return asked

    @classmethod
    def again(cls, document: Mapping[str, Any]) -> "Asked":
        """From a ticket's document, to fill the form with."""
        names = ("kind", "reason", "incident", "scopes", "paths", "seconds")
        return cls(**{name: document[name] for name in names})

    @property
    def minutes(self) -> int:
        """For the form, which asks in minutes."""
        return max(1, self.seconds // 60)

    @property
    def whole(self) -> bool:
        """Whether all of the workspace is asked for."""
        return self.paths == [WHOLE_WORKSPACE]

    def _wrong(self) -> list[tuple[str, str]]:
        return [
            ("reason", _wrong_reason(self.reason)),
            ("incident", _wrong_incident(self.incident)),
            ("scopes", self._wrong_scopes()),
            ("paths", self._wrong_paths()),
            ("minutes", self._wrong_seconds()),
        ]

    def _wrong_scopes(self) -> str:
        if not self.scopes:
            return "Choose what you need: one or more."
        if self.kind == "emergency" and not set(self.scopes) <= tickets.EMERGENCY_SCOPES:
            return "An emergency only reads. Leave out changing files and commands."
        return ""

    def _wrong_paths(self) -> str:
        if not WORKSPACE & set(self.scopes):
            return ""
        if "exec" in self.scopes and not self.whole:
            return "Commands reach the whole workspace. Ask for all of it, or leave out commands."
        if not self.paths:
            return "Name at least one folder or file."
        if len(self.paths) > tickets.MAX_PATHS:
            return f"Name {tickets.MAX_PATHS} paths at most. Perhaps one folder holds several of them."
        return next((words for words in map(_wrong_path, self.paths) if words and not self.whole), "")

    def _wrong_seconds(self) -> str:
        longest = tickets.MAX_EMERGENCY_SECONDS if self.kind == "emergency" else tickets.MAX_SECONDS
        if tickets.MIN_SECONDS <= self.seconds <= longest:
            return ""
        return f"Give whole minutes, from 1 to {longest // 60}."


def _text(typed: str) -> str:
    """As it will be signed: one kind of line end, NFC, no blanks around it."""
    return unicodedata.normalize("NFC", typed.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _scopes(sent: list[str]) -> list[str]:
    """Who may change a file must be able to see it: the ticket says so, and so do the approvers' eyes."""
    found = {scope for scope in sent if scope in tickets.SCOPES}
    return sorted(found | ({"workspace:read"} if "workspace:write" in found else set()))


def _paths(form: QueryDict) -> list[str]:
    if form.get("whole") == "yes":
        return [WHOLE_WORKSPACE]
    lines = (_text(line).removesuffix("/") for line in form.get("paths", "").splitlines())
    return sorted({line for line in lines if line})


def _seconds(minutes: str) -> int:
    return int(minutes) * 60 if minutes.isascii() and minutes.isdigit() and len(minutes) < 5 else 0


def _wrong_reason(reason: str) -> str:
    if tickets.MIN_REASON <= len(reason) <= tickets.MAX_REASON:
        return ""
    return f"Say why, in {tickets.MIN_REASON} to {tickets.MAX_REASON} characters. These are {len(reason)}."


def _wrong_incident(incident: str) -> str:
    if not incident or (incident.startswith(("https://", "http://")) and " " not in incident):
        return "" if len(incident) <= tickets.MAX_INCIDENT else f"At most {tickets.MAX_INCIDENT} characters."
    return "Give a link that begins with https://, or leave it empty."


def _wrong_path(path: str) -> str:
    if path.startswith("/"):
        return f"Paths begin in the workspace. Leave out the first / of {path}."
    if {"", ".", ".."} & set(path.split("/")):
        return f"Write {path} without . or .. and without two / in a row."
    return ""
