"""What the record holds of a routed request: names that the agent has given, nothing that was typed.

A member's browser sends what it likes, and an entry is for ever. So a leaf names the route as far as the
agent has a name for it; all else is ``unknown``.
"""

UNKNOWN = "unknown"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BEGINNINGS = frozenset(
    {
        "/",
        "/gateway",
        "/gateway-api/v1",
        "/gateway.js",
        "/jobs.js",
        "/page.css",
        "/page.js",
        "/v1/door",
        "/v1/gateway",
        "/v1/grants",
        "/v1/jobs",
        "/v1/members",
        "/v1/outside",
        "/v1/recovery",
        "/v1/session",
        "/v1/sessions",
        "/v1/vault",
        "/v1/witness",
        "/v1/workspace",
        "/witness.js",
    }
)
"""How all the agent's routes begin that the proxy reaches; a test compares them with its own table."""

BREAK_GLASS = frozenset(
    {
        ("DELETE", "/v1/break-glass/files"),
        ("GET", "/break-glass"),
        ("GET", "/break-glass.css"),
        ("GET", "/break-glass.js"),
        ("GET", "/v1/break-glass"),
        ("GET", "/v1/break-glass/files"),
        ("GET", "/v1/break-glass/list"),
        ("GET", "/v1/break-glass/logs"),
        ("GET", "/v1/break-glass/logs/read"),
        ("GET", "/v1/break-glass/status"),
        ("POST", "/v1/break-glass/challenge"),
        ("POST", "/v1/break-glass/end"),
        ("POST", "/v1/break-glass/exec"),
        ("POST", "/v1/break-glass/folders"),
        ("POST", "/v1/break-glass/sessions"),
        ("PUT", "/v1/break-glass/files"),
    }
)
"""The routes that an operator's ticket leads to, whole; a test compares them with the agent's table.

With their methods: for any other the agent answers before its gate, and keeps no receipt to compare.
"""


def break_glass_route(method: str, path: str) -> str:
    """The route of break-glass that is asked for, or empty. Files are named behind the ``?`` only."""
    plain = path.partition("?")[0]
    return plain if (method, plain) in BREAK_GLASS else ""


def named(path: str) -> str:
    """The route that ``path`` begins with, as far as it is no member's text."""
    plain = path.partition("?")[0]
    first, second = ("/".join(plain.split("/")[:count]) for count in (2, 3))
    return next((one for one in (second, first) if one in BEGINNINGS), UNKNOWN)


def method_of(method: str) -> str:
    """The method, if it is one that the agent could have a route for."""
    return method if method in METHODS else UNKNOWN
