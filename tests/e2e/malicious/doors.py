"""Attempts at the guest's doors: sessions, tokens, certificates, members' routes and control routes."""

import hmac
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from guest.agent.gate import ACCESS, MEMBERS_ONLY, UNDER_TICKETS, Access
from protocol.persons import Purpose
from protocol.tickets import Ticket, session_document
from protocol.tokens import public_key, sign
from tests.e2e.malicious.portal import CUT, OK, Answer, Portal, attempt, by_hand, owner_of, routes_under

# Riding on a ticket that is open


@attempt("session_required")
def the_open_ticket_without_its_requester(portal: Portal) -> Iterator[Answer]:
    """Everything that the ticket covers; but the portal is not the one who asked."""
    for method, path, body in routes_under(portal):
        for cookie in ("", "x" * 43, portal.loot.cookie):
            yield portal.ask_under(portal.loot.active, method, path, body, cookie=cookie)


@attempt("session_required")
def cookies_of_all_kinds(portal: Portal) -> Iterator[Answer]:
    """Two at once, a member's name for it, none with a value, one in a header of another name."""
    method, path = "GET", f"/v1/break-glass/files?path={portal.loot.open_path}"
    old = portal.loot.cookie
    for headers in (
        {"Cookie": [f"__Host-bg={old}", "__Host-bg=x"]},
        {"Cookie": "__Host-bg="},
        {"Cookie": f"__Host-guest={old}"},
        {"Portal-Session": old, "Portal-Proof": "1.AAAA"},
        {"X-Forwarded-User": "user:9", "X-Remote-User": "user:9"},
    ):
        token = portal.glass(method, path, b"", portal.loot.active)
        yield portal.ask(method, path, token=token, headers=headers)


@attempt("bad_signature", "nonce_unknown")
def a_session_of_its_own(portal: Portal) -> Iterator[Answer]:
    """Its own passkey, a nonce of its own, what the requester signed before, and what approvers signed."""
    loot, grant = portal.loot, portal.loot.active
    ticket = Ticket.parse(grant["document"])
    key = ticket.requester.key.fingerprint
    for claimed in ({}, {"by": key}):
        nonce = portal.challenge(grant)
        document = session_document(nonce, ticket)
        own = portal.me.sign(Purpose.ACCESS, document, origin=loot.guest_origin)
        yield portal.begin(grant, nonce, {**own, **claimed})
        yield portal.begin(grant, nonce, {**own, **claimed})
    yield portal.begin(grant, "00" * 32, portal.me.sign(Purpose.ACCESS, session_document("00" * 32, ticket)))
    heard = {name: value for name, value in loot.overheard.items() if name != "nonce"}
    yield portal.begin(grant, loot.overheard["nonce"], heard)
    for signature in (heard, grant["request"], *grant["approvals"], {}):
        yield portal.begin(grant, portal.challenge(grant), signature)
    yield portal.begin(grant, "", heard)


@attempt("bad_signature")
def a_session_signed_on_the_portals_page(portal: Portal) -> Iterator[Answer]:
    """The requester is shown a ticket and signs the guest's nonce; but sessions begin on the guest's own page only."""
    grant = portal.loot.active
    nonce = portal.challenge(grant)
    document = session_document(nonce, Ticket.parse(grant["document"]))
    yield portal.begin(grant, nonce, portal.loot.lure(Purpose.ACCESS, document))


@attempt("token_differs", "no_grant", "ended")
def tokens_that_say_more_than_the_ticket(portal: Portal) -> Iterator[Answer]:
    """Wider scopes, wider paths, another digest, another ticket's name."""
    loot, grant = portal.loot, portal.loot.active
    lies: list[dict[str, Any]] = [
        {"scopes": ["exec", "logs:read", "status", "workspace:read", "workspace:write"]},
        {"paths": [""]},
        {"paths": [*grant["document"]["paths"], loot.secret_path]},
        {"paths": []},
        {"digest": "0" * 64},
        {"ticket": loot.past["document"]["ticket"]},
        {"ticket": loot.waiting["document"]["ticket"]},
        {"ticket": ""},
        {"ticket": "../" + grant["document"]["ticket"]},
    ]
    for changed in lies:
        for path in (loot.open_path, loot.secret_path):
            yield portal.ask_under(grant, "GET", f"/v1/break-glass/files?path={path}", **changed)
        yield portal.ask_under(grant, "POST", "/v1/break-glass/challenge", {}, **changed)


@attempt(OK)
def the_door_of_the_open_ticket(portal: Portal) -> Iterator[Answer]:
    """Its page and its challenge are there for whoever has a token. They hold nothing of the tenant's."""
    for (method, path), access in ACCESS.items():
        if access is Access.BREAK_GLASS_DOOR and not path.endswith("/sessions"):
            yield portal.ask_under(portal.loot.active, method, path, {} if method == "POST" else b"")


# Tokens of every kind at every door


@attempt("token_invalid")
def break_glass_tokens_elsewhere(portal: Portal) -> Iterator[Answer]:
    """On members' routes and on control routes."""
    for (method, path), access in ACCESS.items():
        if access not in UNDER_TICKETS and access is not Access.OPEN:
            yield portal.ask_under(portal.loot.active, method, path, cookie=portal.loot.cookie)


@attempt("token_invalid")
def runtime_tokens_under_tickets(portal: Portal) -> Iterator[Answer]:
    """A runtime token, by either key, opens nothing of break-glass."""
    for method, path, body in routes_under(portal):
        for seed in (portal.loot.token_seed, portal.loot.route_seed):
            yield portal.ask(method, path, body, seed=seed)


@attempt("token_invalid")
def the_webs_key_at_control_routes(portal: Portal) -> Iterator[Answer]:
    """The key that web processes sign routed requests with is none of the worker's."""
    for (method, path), access in ACCESS.items():
        if access is Access.CONTROL:
            yield portal.ask(method, path, seed=portal.loot.route_seed)


@attempt("token_invalid")
def tokens_of_other_makings(portal: Portal) -> Iterator[Answer]:
    """Unsigned, signed with a public key as a shared secret, of another type, with a key of its own beside it."""
    path = f"/v1/break-glass/files?path={portal.loot.open_path}"
    claims = asdict(portal.glass("GET", path, b"", portal.loot.active))
    seed = portal.loot.token_seed
    good = sign(portal.glass("GET", path, b"", portal.loot.active), seed)
    head, _, tail = good.rpartition(".")
    for text in (
        by_hand({"alg": "none", "typ": "bg+jwt"}, claims, lambda _: b""),
        by_hand({"alg": "HS256", "typ": "bg+jwt"}, claims, lambda m: hmac.digest(seed, m, "sha256")),
        by_hand({"alg": "EdDSA", "typ": "bg+jwt"}, claims, lambda m: hmac.digest(seed, m, "sha256")),
        sign(portal.glass("GET", path, b"", portal.loot.active), b"\x01" * 32),
        f"{head}.{tail[:-4]}AAAA",
        f"{good}.x",
    ):
        yield portal.ask("GET", path, token=text)


@attempt("token_missing", "token_invalid")
def two_tokens_at_once(portal: Portal) -> Iterator[Answer]:
    """One for each half of the gate; in two headers, in one, and by another scheme."""
    path = f"/v1/break-glass/files?path={portal.loot.open_path}"
    glass = sign(portal.glass("GET", path, b"", portal.loot.active), portal.loot.token_seed)
    plain = sign(portal.token("GET", path, b""), portal.loot.token_seed)
    for shown in (
        [f"Bearer {glass}", f"Bearer {plain}"],
        [f"Bearer {plain}", f"Bearer {glass}"],
        f"Bearer {glass} {plain}",
        f"Bearer {glass}, Bearer {plain}",
        f"Basic {glass}",
        f"bearer {glass}",
        "",
    ):
        yield portal.ask("GET", path, headers={"Authorization": shown})


@attempt("token_replayed", "token_wrong_request")
def tokens_twice_and_elsewhere(portal: Portal) -> Iterator[Answer]:
    """The same one again; for another path; for another guest; with another body."""
    loot, path = portal.loot, "/v1/break-glass/challenge"
    good = sign(portal.glass("POST", path, b"{}", loot.active), loot.token_seed)
    first = portal.ask("POST", path, {}, token=good)
    assert first.code == OK
    yield portal.ask("POST", path, {}, token=good)
    files = f"/v1/break-glass/files?path={loot.open_path}"
    yield portal.ask("GET", files, token=portal.glass("GET", "/v1/break-glass", b"", loot.active))
    for changed in ({"aud": str(uuid.uuid4())}, {"tenant_id": str(uuid.uuid4())}):
        yield portal.ask_under(loot.active, "POST", path, {}, **changed)
    token = portal.token("PUT", "/v1/grants", None)
    yield portal.ask("PUT", "/v1/grants", {"grant": loot.waiting}, token=token)


@attempt("not_for_this_caller")
def its_proxys_certificate(portal: Portal) -> Iterator[Answer]:
    """At the control routes, with the control plane's token."""
    for (method, path), access in ACCESS.items():
        if access is Access.CONTROL:
            yield portal.ask(method, path, who="proxy")


@attempt(CUT)
def a_certificate_of_another_name(portal: Portal) -> Iterator[Answer]:
    """The CA's key signs any name; the guest knows two."""
    for method, path in ACCESS:
        yield portal.ask(method, path, who="made up")


# Members' doors


@attempt("session_required")
def members_routes(portal: Portal) -> Iterator[Answer]:
    """Each of them with a perfect token; and with what an operator would have."""
    for (method, path), access in ACCESS.items():
        if access in MEMBERS_ONLY:
            asked = path.replace("{tail}", "x")
            yield portal.ask(method, asked)
            yield portal.ask(method, asked, seed=portal.loot.route_seed, who="proxy")
            yield portal.ask(method, asked, headers={"Cookie": f"__Host-guest={portal.loot.cookie}"})
            yield portal.ask(method, asked, headers={"Cookie": f"__Host-bg={portal.loot.cookie}"})


@attempt("bad_signature", "not_a_member")
def a_members_session(portal: Portal) -> Iterator[Answer]:
    """By its own keys, under the owner's name, and with signatures that people gave for break-glass."""
    loot = portal.loot
    for make in (
        lambda document: portal.device.sign(Purpose.SESSION, document),
        lambda document: portal.device.sign(Purpose.SESSION, document) | {"by": owner_of(portal)},
        lambda document: portal.me.sign(Purpose.SESSION, document, origin=loot.guest_origin),
        lambda _: {name: value for name, value in loot.overheard.items() if name != "nonce"},
        lambda _: loot.keyring["signature"],
    ):
        challenge = portal.ask("POST", "/v1/sessions/challenge").document
        signature = {**make(challenge), "nonce": challenge["nonce"]}
        yield portal.ask("POST", "/v1/sessions", {"signature": signature})


# Control routes: do they tell more than they should?


@attempt(OK)
def all_that_control_routes_tell(portal: Portal) -> Iterator[Answer]:
    """Everything that reads: status, sealed secrets, receipts from the first on, and the sign-in page."""
    for (method, path), access in ACCESS.items():
        if method == "GET" and access in {Access.CONTROL, Access.SIGN_IN}:
            yield portal.ask(method, path)


@attempt("bad_request", OK)
def control_routes_asked_for_files(portal: Portal) -> Iterator[Answer]:
    """Members of bodies and queries that they do not have."""
    secret = portal.loot.secret_path
    for path in (f"/v1/status?path={secret}", f"/v1/receipts?path={secret}", "/v1/receipts?after=../0"):
        yield portal.ask("GET", path)
    for path in ("/v1/grants/end", "/v1/secrets/export", "/v1/checkpoint"):
        yield portal.ask("POST", path, {"path": secret, "ticket": secret, "name": secret})


@attempt(OK, "session_required")
def keys_of_its_own(portal: Portal) -> Iterator[Answer]:
    """It may tell the guest to believe other keys of the control plane. They open no more than the old ones."""
    seed = b"\x67" * 32
    trust = {**portal.loot.trust, "issued_at": portal.loot.trust["issued_at"] + 1}
    trust["token_keys"] = [*trust["token_keys"], public_key(seed).hex()]
    yield portal.ask("PUT", "/v1/trust", {"trust": trust})
    path = f"/v1/break-glass/files?path={portal.loot.open_path}"
    token = portal.glass("GET", path, b"", portal.loot.active)
    yield portal.ask("GET", path, token=token, seed=seed)
    yield portal.ask("GET", f"/v1/workspace/files?path={portal.loot.secret_path}", seed=seed)
