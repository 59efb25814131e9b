"""What staff did in a machine, by the machine's own receipts. A request and its outcome are one line."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from breakglass.models import Receipt

SHOWN = 500
"""Lines that a page shows, the newest; the file has all."""
ROUTES = {
    ("GET", "/v1/break-glass/status"): "Looked at the machine's state",
    ("GET", "/v1/break-glass/logs"): "Listed the logs",
    ("GET", "/v1/break-glass/logs/read"): "Read a log",
    ("GET", "/v1/break-glass/list"): "Listed a folder",
    ("GET", "/v1/break-glass/files"): "Read a file",
    ("PUT", "/v1/break-glass/files"): "Wrote a file",
    ("DELETE", "/v1/break-glass/files"): "Deleted",
    ("POST", "/v1/break-glass/folders"): "Made a folder",
    ("POST", "/v1/break-glass/exec"): "Ran a command",
}
"""By method and the agent's route, as receipts name them."""
EVENTS = {
    "granted": "The machine let the ticket in",
    "session": "The operator signed in with their passkey",
    "refused": "The machine refused",
    "ended": "Access ended",
}
STATUSES = {404: "not there", 499: "cut off"}
"""What the machine's answer was, where it was no success; in words if they say more than the number."""


@dataclass
class Deed:
    """One line."""

    seq: int
    at: datetime
    event: str
    detail: dict[str, Any]
    outcome: dict[str, Any] = field(default_factory=dict)
    """Of an access: empty while it is under way, or if nobody knows."""

    @property
    def what(self) -> str:
        """In words."""
        if self.event != "access":
            return EVENTS.get(self.event, self.event)
        route = (str(self.detail.get("method")), str(self.detail.get("route")))
        return ROUTES.get(route, "Asked for something else")

    @property
    def subject(self) -> str:
        """Path, log or command: an operator's text."""
        if "argv" in self.detail:
            cwd = f"  (in {self.detail['cwd']})" if self.detail.get("cwd") else ""
            return f"{json.dumps(self.detail['argv'], ensure_ascii=False)}{cwd}"
        if "path" in self.detail:
            more = ", with all that is in it" if self.detail.get("recursive") == "1" else ""
            return (str(self.detail["path"]) or "the whole workspace") + more
        return str(self.detail.get("name") or self.detail.get("code") or "")

    @property
    def result(self) -> str:
        """How it went, in a few words."""
        status = self.outcome.get("status")
        if status is None:
            return ""
        parts = [STATUSES.get(status, "" if status < 400 else f"not served ({status})")]
        parts += [_bytes(self.outcome["bytes"])] if isinstance(self.outcome.get("bytes"), int) else []
        if isinstance(self.outcome.get("removed"), int):
            parts.append(f"{self.outcome['removed']} removed")
        parts += [f"exit code {self.outcome['exit_code']}"] if "exit_code" in self.outcome else []
        return ", ".join(part for part in parts if part)

    @property
    def sha256(self) -> str:
        """Of what came out, where the machine says."""
        return str(self.outcome.get("sha256") or "")

    def document(self) -> dict[str, Any]:
        """For the API."""
        return {
            "seq": self.seq,
            "at": self.at.isoformat(),
            "event": self.event,
            "what": self.what,
            "detail": self.detail,
            "outcome": self.outcome,
        }


def deeds(receipts: Iterable[Receipt]) -> list[Deed]:
    """The lines of a ticket's receipts, which come in the chain's order."""
    found: list[Deed] = []
    waiting: dict[str, Deed] = {}
    for receipt in receipts:
        detail = dict(json.loads(receipt.text)["detail"])
        if receipt.event == "outcome" and receipt.token in waiting:
            waiting.pop(receipt.token).outcome = detail
            continue
        deed = Deed(receipt.seq, receipt.at, receipt.event, detail)
        found.append(deed)
        if receipt.event == "access":
            waiting[receipt.token] = deed
    return found


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} byte{'' if count == 1 else 's'}"
    for unit, size in (("kB", 1000), ("MB", 1000**2), ("GB", 1000**3)):
        if count < size * 1000:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000**4:.1f} TB"
