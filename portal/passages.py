"""What nginx is answered for a request to a runtime's origin: a passage, or why there is none."""

from dataclasses import dataclass

from audit.context import Actor


class RouteRefused(Exception):
    """No way to the guest. ``status`` is what nginx is told: 401 to begin anew, 403 not to.

    ``wait``: after how many seconds it is worth trying again; None where waiting changes nothing.
    """

    TOO_MANY = "too_many_requests"
    """The code of a refusal that is on record already."""
    actor: Actor | None = None
    """Who was refused, where the cookie told."""

    def __init__(self, status: int, code: str, message: str, wait: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.wait = status, code, message, wait


@dataclass(frozen=True)
class Passage:
    """What nginx needs to carry one request to a guest."""

    token: str
    address: str
    """``IPv4:port`` of the agent."""
    runtime_id: str
