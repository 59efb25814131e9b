"""What tickets' codes are called where people read them."""

from protocol.tickets import WHOLE_WORKSPACE

SCOPES = {
    "status": ("State", "how the machine and its services are"),
    "logs:read": ("Logs", "of the agent and the gateway, and members' commands with all their output"),
    "workspace:read": ("Read files", "list, view and download below the paths named"),
    "workspace:write": ("Change files", "write and delete below the paths named"),
    "exec": ("Commands", "single ones, as the tenant's user; they reach the whole workspace"),
}
"""Scope → its name and what it opens, in the order of the form."""

STATES = {
    "pending": "Waits for approval",
    "approved": "Approved, not begun",
    "active": "Active",
    "ended": "Ended",
    "expired": "Time is over",
    "revoked": "Revoked",
    "rejected": "Rejected",
    "withdrawn": "Withdrawn",
    "timed_out": "Waited too long",
}

LOOKS = {
    "pending": "provisioning",
    "approved": "ready",
    "active": "active",
    "rejected": "failed",
    "revoked": "failed",
}
"""State → the class of its badge; none for what is over and done."""

DURATIONS = (5, 15, 30, 60, 120, 240)
"""Minutes that the form offers."""


def scope(code: str) -> str:
    """``Read files``; the code itself for one that this page does not know."""
    return SCOPES.get(code, (code, ""))[0]


def path(text: str) -> str:
    """A ticket's path for people."""
    return "the whole workspace" if text == WHOLE_WORKSPACE else text


def duration(seconds: int) -> str:
    """``30 minutes``, ``2 hours``, ``1 hour 30 minutes``, ``90 seconds``."""
    if seconds % 60:
        return f"{seconds} seconds"
    hours, minutes = divmod(seconds // 60, 60)
    parts = [(hours, "hour"), (minutes, "minute")]
    return " ".join(f"{number} {unit}{'' if number == 1 else 's'}" for number, unit in parts if number)
