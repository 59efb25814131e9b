"""Which scope opens which route, and what of a request its receipt names.

The gate refuses every route of the class ``BREAK_GLASS`` that is missing here. It reads path, name or command
itself, by this table, holds the path against the ticket and writes the receipt, and only then calls the
handler: so a handler can forget none of it.
"""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a ticket may ask for (protocol.tickets)."""

    STATUS = "status"
    LOGS = "logs:read"
    READ = "workspace:read"
    WRITE = "workspace:write"
    EXEC = "exec"


class About(StrEnum):
    """What a request is about, and where it says so."""

    NOTHING = "nothing"
    QUERY_PATH = "query path"
    """``path`` in the query, below the workspace; absent: the workspace itself."""
    BODY_PATH = "body path"
    """``path`` in the JSON body, which has nothing else."""
    LOG = "log"
    """``name`` in the query: one of the logs that ``GET /v1/break-glass/logs`` lists."""
    COMMAND = "command"
    """``argv`` and ``cwd`` in the JSON body."""


@dataclass(frozen=True)
class Rule:
    """Of one route."""

    scope: Scope | None
    """None: any ticket; nothing of the tenant's is told or done, so no receipt of an access is written."""
    about: About = About.NOTHING


RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/v1/break-glass"): Rule(None),
    ("POST", "/v1/break-glass/end"): Rule(None),
    ("GET", "/v1/break-glass/status"): Rule(Scope.STATUS),
    ("GET", "/v1/break-glass/logs"): Rule(Scope.LOGS),
    ("GET", "/v1/break-glass/logs/read"): Rule(Scope.LOGS, About.LOG),
    ("GET", "/v1/break-glass/list"): Rule(Scope.READ, About.QUERY_PATH),
    ("GET", "/v1/break-glass/files"): Rule(Scope.READ, About.QUERY_PATH),
    ("PUT", "/v1/break-glass/files"): Rule(Scope.WRITE, About.QUERY_PATH),
    ("DELETE", "/v1/break-glass/files"): Rule(Scope.WRITE, About.QUERY_PATH),
    ("POST", "/v1/break-glass/folders"): Rule(Scope.WRITE, About.BODY_PATH),
    ("POST", "/v1/break-glass/exec"): Rule(Scope.EXEC, About.COMMAND),
}
