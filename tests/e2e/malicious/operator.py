"""Plots with the requester of the ticket that is open: what was signed, and nothing beside it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from guest.agent.breakglass.scopes import RULES
from tests.e2e.malicious.portal import OK, Answer, Portal, routes_under

# In league with the requester of the ticket that is open


@dataclass
class Operator:
    """The requester, who has begun a session as honest operators do, and hands the portal its cookie."""

    portal: Portal
    cookie: str

    def ask(self, method: str, path: str, body: Any = b"", **changed: Any) -> Answer:
        """One request in the session. ``changed``: of the token's claims."""
        return self.portal.ask_under(self.portal.loot.active, method, path, body, self.cookie, **changed)

    def read(self, path: str) -> Answer:
        """``path`` as it stands in the query."""
        return self.ask("GET", f"/v1/break-glass/files?path={path}")


Plot = Callable[[Operator], Iterator[Answer]]
IN_LEAGUE: dict[str, tuple[frozenset[str], Plot]] = {}


def plot(*codes: str) -> Callable[[Plot], Plot]:
    """Add a row."""

    def added(tried: Plot) -> Plot:
        IN_LEAGUE[tried.__name__] = frozenset(codes), tried
        return tried

    return added


@plot(OK)
def what_was_approved(operator: Operator) -> Iterator[Answer]:
    """That much they get: else the rest would prove nothing."""
    yield operator.read(operator.portal.loot.open_path)
    yield operator.ask("GET", "/v1/break-glass")


@plot("wrong_path", "bad_path", "bad_request", "not_found")
def paths_beside_the_ticket(operator: Operator) -> Iterator[Answer]:
    """Plainly, by dots, slashes, encodings, names that begin alike, a NUL, and twice."""
    loot = operator.portal.loot
    secret, (folder, _, name) = loot.secret_path, loot.open_path.rpartition("/")
    dots = secret.replace("/", "%2f")
    for path in (
        secret,
        "",
        secret.rpartition("/")[0],
        f"{folder}/../{secret}",
        f"{folder}/..%2f{dots}",
        f"{folder}/%2e%2e/{secret}",
        f"{folder}/%252e%252e/{secret}",
        f"{folder}/./../{secret}",
        f"{folder}//../{secret}",
        f"{loot.open_path}/../../{secret}",
        f"./{secret}",
        f"/{secret}",
        f"//{secret}",
        f"%2f{dots}",
        "/etc/passwd",
        f"{folder}2/{name}",
        f"{folder}%00/../{secret}",
        f"{loot.open_path}%00",
        f"{secret}&path={loot.open_path}",
        f"{loot.open_path}&path={secret}",
        f"{loot.open_path}%26path={secret}",
        f"{folder}%5c..%5c{secret}",
        f"{folder}/%c0%ae%c0%ae/{secret}",
        f"{folder}/%ef%bc%8e%ef%bc%8e/{secret}",
    ):
        yield operator.read(path)
    for path in ("", secret.rpartition("/")[0], f"{folder}/.."):
        yield operator.ask("GET", f"/v1/break-glass/list?path={path}")
    yield operator.ask("GET", "/v1/break-glass/list")


@plot("outside")
def links_that_lead_out(operator: Operator) -> Iterator[Answer]:
    """The tenant has links in the folder that was approved, to a file and to a folder that were not."""
    loot = operator.portal.loot
    folder, name = loot.open_path.rpartition("/")[0], loot.secret_path.rpartition("/")[2]
    yield operator.read(f"{folder}/link")
    yield operator.read(f"{folder}/link-to-folder/{name}")
    yield operator.ask("GET", f"/v1/break-glass/list?path={folder}/link-to-folder")


@plot("wrong_scope")
def scopes_that_were_not_signed(operator: Operator) -> Iterator[Answer]:
    """A ticket to read writes nothing, runs nothing and reads no log."""
    loot = operator.portal.loot
    had = set(loot.active["document"]["scopes"])
    for method, path, body in routes_under(operator.portal):
        rule = RULES[method, path.partition("?")[0]]
        if rule.scope is not None and rule.scope not in had:
            yield operator.ask(method, path, body)


@plot("not_found", "wrong_path", "token_invalid", "method_not_allowed", "status 400", "status 405")
def routes_written_otherwise(operator: Operator) -> Iterator[Answer]:
    """By dots, slashes, encodings and whole addresses: what the token says is what is asked, and what is served."""
    secret, prefix = operator.portal.loot.secret_path, "/v1/break-glass"
    for path in (
        f"{prefix}/../workspace/files?path={secret}",
        f"{prefix}/%2e%2e/workspace/files?path={secret}",
        f"{prefix}/./files?path={secret}",
        f"/v1//break-glass/files?path={secret}",
        f"{prefix}/files/?path={secret}",
        f"/v1/break%2dglass/files?path={secret}",
        f"{prefix}/files;path={secret}",
        f"{prefix.upper()}/FILES?path={secret}",
        f"http://127.0.0.1{prefix}/files?path={secret}",
        f"http://127.0.0.1/v1/workspace/files?path={secret}",
        f"{prefix}/files?%70ath={secret}",
    ):
        yield operator.ask("GET", path)
    for method in ("HEAD", "POST", "OPTIONS", "get"):
        yield operator.ask(method, f"{prefix}/files?path={secret}")


@plot("token_differs")
def wider_tokens(operator: Operator) -> Iterator[Answer]:
    """The session is real; the token still must be the ticket's."""
    loot = operator.portal.loot
    for changed in ({"paths": [""]}, {"scopes": ["exec", "workspace:read"]}, {"digest": "0" * 64}):
        yield operator.ask("GET", f"/v1/break-glass/files?path={loot.secret_path}", **changed)


@plot("cross_origin")
def from_another_page(operator: Operator) -> Iterator[Answer]:
    """A sibling's page, or the portal's, sends the cookie along."""
    loot = operator.portal.loot
    path = f"/v1/break-glass/files?path={loot.open_path}"
    for site in ("same-site", "cross-site", ""):
        headers = {
            "Cookie": f"__Host-bg={operator.cookie}",
            "Sec-Fetch-Site": site,
            "Origin": loot.portal_origin,
        }
        token = operator.portal.glass("GET", path, b"", loot.active)
        yield operator.portal.ask("GET", path, token=token, headers=headers)


@plot("no_grant", "ended")
def its_session_under_other_tickets(operator: Operator) -> Iterator[Answer]:
    """A cookie is one ticket's."""
    loot = operator.portal.loot
    for grant in (loot.past, loot.waiting, loot.lapsed):
        path = f"/v1/break-glass/files?path={loot.open_path}"
        yield operator.portal.ask_under(grant, "GET", path, cookie=operator.cookie)


@plot("session_required", "token_invalid")
def members_routes_with_it(operator: Operator) -> Iterator[Answer]:
    """An operator is no member, by any name of the cookie."""
    portal = operator.portal
    path = f"/v1/workspace/files?path={portal.loot.secret_path}"
    for name in ("__Host-guest", "__Host-bg"):
        yield portal.ask("GET", path, headers={"Cookie": f"{name}={operator.cookie}"})
        yield portal.ask("GET", path, headers={"Portal-Session": operator.cookie, "Portal-Proof": "1.AAAA"})
    yield operator.ask("GET", path)
