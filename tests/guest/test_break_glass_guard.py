"""What stands before every access route: session, scope, path, receipts, and the cut when access ends."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import time
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import ClientError, web
from aiohttp.test_utils import make_mocked_request

from guest.agent.breakglass.guard import COOKIE
from guest.agent.breakglass.refusals import BreakGlassRefused
from guest.agent.breakglass.scopes import RULES, About, Scope
from guest.agent.breakglass.sessions import IDLE_SECONDS, NONCE_SECONDS
from guest.agent.gate import Access, Gate
from guest.agent.routes import Routes
from guest.agent.streams import Flow, Places
from protocol.persons import Purpose
from tests.guest.glass import OWN_PAGE, Glass, Server, all_scopes, bg_token, request_of, served
from tests.protocol.people import Passkey
from tests.protocol.ticketing import ANN, BEN, PORTAL_ORIGIN, RAE, a_grant, a_ticket

ROUTES = [route for route in RULES if route != ("POST", "/v1/break-glass/end")]
SCOPED = [route for route in ROUTES if RULES[route].scope is not None]
PATHED = [route for route in SCOPED if RULES[route].about in {About.QUERY_PATH, About.BODY_PATH}]
YEAR = 365 * 86400
STREAM = "/v1/break-glass/files?path=logs/a&offset=0"


@pytest.fixture
def glass(tmp_path: Path) -> Glass:
    return Glass(tmp_path)


def run(glass: Glass, case: Callable[[Server], Awaitable[None]]) -> None:
    """The case on a served guard, in less than 20 seconds."""

    async def whole() -> None:
        async with asyncio.timeout(20), served(glass) as server:
            await case(server)

    asyncio.run(whole())


def everything(glass: Glass) -> Any:
    """An open grant for everything."""
    return glass.access.take(a_grant(all_scopes(), by=[ANN, BEN]))


# Sessions


def session_code(glass: Glass, opened: Any, nonce: str, signature: Any) -> str:
    try:
        glass.access.begin_session(opened.ticket, nonce, signature, "a-token")
    except BreakGlassRefused as refusal:
        return refusal.code
    return "begun"


def test_only_the_requesters_passkey_at_this_guest(glass: Glass) -> None:
    """Not an approver's, not at the portal's origin, not without user verification, not for another purpose."""
    opened = glass.access.take(a_grant())
    wrong: list[tuple[Passkey, Purpose, dict[str, Any]]] = [
        (ANN, Purpose.ACCESS, {}),
        (Passkey(), Purpose.ACCESS, {}),
        (RAE, Purpose.ACCESS, {"origin": PORTAL_ORIGIN}),
        (RAE, Purpose.ACCESS, {"origin": "http://other.portal.localhost:8000"}),
        (RAE, Purpose.ACCESS, {"rp_id": "elsewhere"}),
        (RAE, Purpose.ACCESS, {"flags": 0x01}),
        (RAE, Purpose.SESSION, {}),
    ]
    for by, purpose, changed in wrong:
        asked = glass.access.challenge(opened)
        signature = by.sign(purpose, asked, **changed)
        assert session_code(glass, opened, asked["nonce"], signature) == "bad_signature"
    assert glass.events() == ["granted"]


def test_a_nonce_is_good_once_and_for_one_ticket(glass: Glass) -> None:
    first, second = glass.access.take(a_grant()), glass.access.take(a_grant())
    asked = glass.access.challenge(first)
    signature = RAE.sign(Purpose.ACCESS, asked)
    assert session_code(glass, second, asked["nonce"], signature) == "nonce_unknown"
    asked = glass.access.challenge(first)
    signature = RAE.sign(Purpose.ACCESS, asked)
    assert session_code(glass, first, asked["nonce"], signature) == "begun"
    assert session_code(glass, first, asked["nonce"], signature) == "nonce_unknown"
    asked = glass.access.challenge(first)
    glass.clock.go(NONCE_SECONDS)
    assert session_code(glass, first, asked["nonce"], RAE.sign(Purpose.ACCESS, asked)) == "nonce_unknown"
    asked = glass.access.challenge(second)
    slipped = RAE.sign(Purpose.ACCESS, {**asked, "ticket": first.ticket.ticket})
    assert session_code(glass, second, asked["nonce"], slipped) == "bad_signature"


def test_one_session_for_a_ticket(glass: Glass) -> None:
    """A new one ends the one before; its name opens no other ticket; idle too long, it is over."""
    first, second = glass.access.take(a_grant()), glass.access.take(a_grant())
    old, new, other = glass.session(first), glass.session(first), glass.session(second)

    def code(opened: Any, name: str) -> str:
        try:
            glass.access.session(opened.ticket.ticket, name)
        except BreakGlassRefused as refusal:
            return refusal.code
        return "lives"

    assert [code(first, each) for each in (old, new, other)] == [
        "session_required",
        "lives",
        "session_required",
    ]
    glass.clock.monotonic += IDLE_SECONDS - 1
    assert code(first, new) == "lives"
    assert code(second, other) == "lives"
    glass.clock.monotonic += IDLE_SECONDS
    assert code(first, new) == "session_required"
    other = glass.session(second)
    assert code(second, other) == "lives"
    glass.access.end(second.ticket.ticket, "done")
    assert code(second, other) == "session_required"
    assert glass.events().count("session") == 4


# The guard


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_no_access_without_the_operators_session(glass: Glass, route: tuple[str, str]) -> None:
    """Walked from the table: the perfect token under an open grant reaches no handler by itself."""
    method, path, body = request_of(route)

    async def case(server: Server) -> None:
        opened = everything(glass)
        for session in ("", "x" * 43, f"x; {COOKIE}=y"):
            assert await server.code(opened, method, path, session, body) == "session_required"
        session = glass.session(opened)
        two = f"{session}; {COOKIE}=x"
        assert await server.code(opened, method, path, two, body) == "session_required"
        elsewhere = {**OWN_PAGE, "Sec-Fetch-Site": "same-site", "Cookie": f"{COOKIE}={session}"}
        server.tokens.append(bg_token(opened, method, path))
        answer = await server.client.request(method, server.url + path, json=body, headers=elsewhere)
        assert (await answer.json())["error"] == "cross_origin"
        assert server.reached == []

    run(glass, case)
    assert glass.events() == ["granted"] + ["refused"] * 3 + ["session"] + ["refused"] * 2


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_the_scope_of_each_route(glass: Glass, route: tuple[str, str]) -> None:
    """Walked from the table: a ticket for everything else does not open it, a ticket for it does."""
    method, path, body = request_of(route)
    scope = RULES[route].scope

    async def case(server: Server) -> None:
        opened = everything(glass)
        assert await server.code(opened, method, path, glass.session(opened), body) == "ok"
        kept = {each for each in Scope if each != scope}
        if scope is Scope.READ:
            kept.discard(Scope.WRITE)  # who writes must read
        about = [""] if kept & {Scope.READ, Scope.EXEC} else []
        without = glass.access.take(a_grant(a_ticket(scopes=sorted(kept), paths=about), by=[ANN, BEN]))
        expected = "wrong_scope" if scope else "ok"
        assert await server.code(without, method, path, glass.session(without), body) == expected

    run(glass, case)
    assert len([each for each in glass.events() if each == "access"]) == (1 if scope else 0)


@pytest.mark.parametrize("route", PATHED, ids=" ".join)
def test_the_paths_of_each_route(glass: Glass, route: tuple[str, str]) -> None:
    """By whole segments, as written; what is not written plainly is not looked at."""

    async def case(server: Server) -> None:
        scopes = ["workspace:read", "workspace:write"]
        ticket = a_ticket(scopes=scopes, paths=["logs", "notes/today.txt"])
        opened = glass.access.take(a_grant(ticket, by=[ANN, BEN]))
        session = glass.session(opened)
        for path, expected in {
            "logs": "ok",
            "logs/deep/er.txt": "ok",
            "notes/today.txt": "ok",
            "": "wrong_path",
            "notes": "wrong_path",
            "logs2": "wrong_path",
            "notes/today.txt2": "wrong_path",
            "secret": "wrong_path",
            "logs/../secret": "bad_path",
            "./secret": "bad_path",
            "/logs": "bad_path",
            "logs//x": "bad_path",
        }.items():
            method, url, body = request_of(route, path)
            assert await server.code(opened, method, url, session, body) == expected, path
        assert [each.split()[2] for each in server.reached] == ["logs", "logs/deep/er.txt", "notes/today.txt"]
        if body is None:
            for coded in ("logs/%2e%2e/secret", "logs%2f..%2fsecret", "logs/x%00", "%ff"):
                method, url, _ = request_of(route, coded)
                assert await server.code(opened, method, url, session) in {"bad_path", "bad_request"}
            twice = f"{route[1]}?path=logs&path=secret"
            assert await server.code(opened, method, twice, session) == "bad_request"
        assert len(server.reached) == 3

    run(glass, case)


@pytest.mark.parametrize(
    "changed",
    [
        {"scopes": ["exec", "status", "workspace:read"]},
        {"scopes": ["status"]},
        {"paths": [""]},
        {"paths": ["logs"]},
        {"digest": "0" * 64},
    ],
)
def test_a_token_that_is_not_the_tickets(glass: Glass, changed: Any) -> None:
    """Wider or narrower than what approvers signed: nothing."""

    async def case(server: Server) -> None:
        opened = glass.access.take(a_grant())
        session = glass.session(opened)
        path = "/v1/break-glass/files?path=logs/a"
        assert await server.code(opened, "GET", path, session, **changed) == "token_differs"
        assert await server.code(opened, "GET", path, session) == "ok"

    run(glass, case)


def test_a_token_for_another_ticket(glass: Glass) -> None:
    """One operator's session under one ticket opens nothing under another."""

    async def case(server: Server) -> None:
        first, second = everything(glass), everything(glass)
        session = glass.session(first)
        assert await server.code(second, "GET", "/v1/break-glass/status", session) == "session_required"
        unknown = {"ticket": a_ticket()["ticket"]}
        assert await server.code(first, "GET", "/v1/break-glass/status", session, **unknown) == "no_grant"

    run(glass, case)


def test_a_route_without_a_rule(glass: Glass) -> None:
    """One that somebody adds and does not put into the table serves nobody."""

    async def case(server: Server) -> None:
        opened = everything(glass)
        assert await server.code(opened, "GET", "/v1/break-glass/unruled", glass.session(opened)) == "no_rule"
        assert server.reached == []

    run(glass, case)


# Receipts around the handler


def test_what_the_receipts_say(glass: Glass) -> None:
    """Who, what and how it ended: with the token's name, before and after."""

    async def case(server: Server) -> None:
        opened = everything(glass)
        session = glass.session(opened)
        await server.code(opened, "GET", "/v1/break-glass/files?path=logs/a", session, jti="one")
        command = {"argv": ["ls", "-l"], "cwd": "logs", "seconds": 5}
        await server.code(opened, "POST", "/v1/break-glass/exec", session, command, jti="two")
        await server.code(opened, "GET", "/v1/break-glass", session, jti="three")
        await server.code(opened, "GET", "/v1/break-glass/logs/read?name=agent", session, jti="four")

    run(glass, case)
    found = [(each["event"], each["token"], each["detail"]) for each in glass.receipts()[2:]]
    done = {"status": 200, "bytes": 3}
    read = {"scope": "workspace:read", "method": "GET", "route": "/v1/break-glass/files", "path": "logs/a"}
    ran = {"scope": "exec", "method": "POST", "route": "/v1/break-glass/exec", "argv": ["ls", "-l"]}
    log = {"scope": "logs:read", "method": "GET", "route": "/v1/break-glass/logs/read", "name": "agent"}
    assert found == [
        ("access", "one", read),
        ("outcome", "one", done),
        ("access", "two", ran | {"cwd": "logs", "seconds": 5}),
        ("outcome", "two", done),
        ("access", "four", log),
        ("outcome", "four", done),
    ]


@pytest.mark.parametrize("route", SCOPED, ids=" ".join)
def test_no_receipt_no_access(glass: Glass, route: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Walked from the table: what cannot be written down first is not served."""
    method, path, body = request_of(route)

    def full(*_given: Any) -> Any:
        failure = sqlite3.OperationalError("full")
        failure.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise failure

    async def case(server: Server) -> None:
        opened = everything(glass)
        session = glass.session(opened)
        with monkeypatch.context() as patch:
            patch.setattr(glass.store, "add_receipt", full)
            assert await server.code(opened, method, path, session, body) == "disk_full"
        assert server.reached == []
        assert await server.code(opened, method, path, session, body) == "ok"

    run(glass, case)


def test_a_command_that_no_receipt_can_hold(glass: Glass) -> None:
    """Too long, or no text at all: refused, and that noted, not cut short in the receipt."""

    async def case(server: Server) -> None:
        opened = everything(glass)
        session = glass.session(opened)
        for argv in (["x" * 20_000], ["\ud800"], [], "ls", [1]):
            command = {"argv": argv, "cwd": "", "seconds": 5}
            answer = await server.code(opened, "POST", "/v1/break-glass/exec", session, command)
            assert answer == "bad_request"
        assert server.reached == []

    run(glass, case)
    assert glass.events() == ["granted", "session", *["refused"] * 5]


def test_refusals_do_not_fill_the_disk(glass: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many for one ticket, so many a day, and then no more are noted."""
    monkeypatch.setattr("guest.agent.breakglass.receipts.MAX_REFUSED_EACH", 3)
    monkeypatch.setattr("guest.agent.breakglass.receipts.MAX_REFUSED_A_DAY", 5)
    opened, other = everything(glass), everything(glass)
    for each in (opened, other):
        for _ in range(4):
            glass.access.note_refused(bg_token(each, "GET", "/"), "wrong_path")
    glass.access.note_refused(bg_token(opened, "GET", "/", ticket=a_ticket()["ticket"]), "no_grant")
    assert glass.events().count("refused") == 5


def test_others_do_not_use_up_the_room_of_refusals(glass: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grants that were never open here are refused for nothing: an operator's attempts are noted all the same."""
    monkeypatch.setattr("guest.agent.breakglass.receipts.MAX_REFUSED_A_DAY", 3)
    opened = everything(glass)
    for _ in range(5):
        with pytest.raises(BreakGlassRefused):
            glass.access.take({**a_grant(), "approvals": []})
    glass.access.note_refused(bg_token(opened, "GET", "/"), "wrong_path")
    told = [each["detail"]["of"] for each in glass.receipts() if each["event"] == "refused"]
    assert told == ["grant", "grant", "grant", "request"]


def test_refusals_of_a_wrong_clock_do_not_count_for_good(
    glass: Glass, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guest.agent.breakglass.receipts.MAX_REFUSED_A_DAY", 3)
    opened, ahead = everything(glass), time() + YEAR
    for clock in (lambda: ahead, time):
        monkeypatch.setattr("guest.agent.breakglass.receipts.time.time", clock)
        for _ in range(4):
            glass.access.note_refused(bg_token(opened, "GET", "/"), "wrong_path")
    assert glass.events().count("refused") == 6


def test_a_refusal_that_is_too_long_for_its_receipt(glass: Glass) -> None:
    """What it was about is left out; that it was refused is not."""

    async def case(server: Server) -> None:
        opened = glass.access.take(a_grant())
        session, long = glass.session(opened), {"argv": ["true", "x" * 20_000], "cwd": "", "seconds": 5}
        assert await server.code(opened, "POST", "/v1/break-glass/exec", session, long) == "wrong_scope"

    run(glass, case)
    assert glass.receipts()[-1]["detail"] == {"code": "wrong_scope", "of": "request"}


def test_a_refused_grant_on_a_full_disk_is_refused(glass: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: Any) -> None:
        raise sqlite3.OperationalError("full")

    monkeypatch.setattr(glass.store, "add_receipt", full)
    with pytest.raises(BreakGlassRefused, match="approv"):
        glass.access.take({**a_grant(), "approvals": []})


def test_a_ticket_whose_receipts_are_full_lets_nobody_in(
    glass: Glass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No receipt is left out for want of room: access is. Its end is noted, and other tickets go on."""
    monkeypatch.setattr("guest.agent.breakglass.receipts.MAX_TICKET_BYTES", 12_000)

    async def case(server: Server) -> None:
        opened, other = everything(glass), everything(glass)
        session, another = glass.session(opened), glass.session(other)
        long = {"argv": ["true", "x" * 5_000], "cwd": "", "seconds": 5}
        route = ("POST", "/v1/break-glass/exec")
        codes = [await server.code(opened, *route, session, long) for _ in range(4)]
        assert codes == ["ok", "ok", "receipts_full", "receipts_full"]
        with pytest.raises(BreakGlassRefused, match="used too much"):
            glass.session(opened)
        assert await server.code(other, *route, another, long) == "ok"
        glass.access.end(opened.ticket.ticket, "owner")

    run(glass, case)
    assert glass.events()[-6:] == ["outcome", "refused", "refused", "access", "outcome", "ended"]


def test_no_grant_without_room_for_its_receipts(glass: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = everything(glass)
    monkeypatch.setattr("guest.agent.breakglass.receipts.MAX_BYTES", glass.store.size())
    with pytest.raises(BreakGlassRefused, match="no room"):
        glass.access.take(a_grant())
    assert glass.access.take(opened.grant.to_document()) is opened
    glass.session(opened)


def test_a_refusal_does_not_read_all_receipts(glass: Glass) -> None:
    """It is on the event loop: an end or a cut would wait for it."""
    opened, plans = everything(glass), list[str]()
    asked = list[str]()
    glass.store._database.set_trace_callback(asked.append)
    glass.access.note_refused(bg_token(opened, "GET", "/"), "wrong_path")
    glass.access.chain.page(0, opened.ticket.ticket)
    glass.store._database.set_trace_callback(None)
    for sql in asked:
        if sql.startswith("SELECT"):
            rows = glass.store._database.execute(f"EXPLAIN QUERY PLAN {sql}")
            plans += [row[3] for row in rows]
    assert any("receipt_refused" in plan for plan in plans)
    scans = [plan for plan in plans if plan.startswith("SCAN receipt")]
    assert len(scans) == sum("ORDER BY seq DESC LIMIT 1" in sql for sql in asked), plans


# The end of access reaches what is under way


async def cut_within(server: Server, opened: Any, deed: Callable[[], Any], seconds: float = 1.0) -> None:
    """A stream under way breaks off, and what it started is killed, soon after ``deed``."""
    session = server.glass.session(opened)
    server.going.clear()
    answer = await server.ask(opened, "GET", STREAM, session)
    assert await answer.content.readany() == b"some"
    await server.going.wait()
    deed()
    async with asyncio.timeout(seconds):
        with pytest.raises(ClientError):
            await answer.content.read()
    assert server.killed.pop() == opened.ticket.ticket


def test_every_end_cuts(glass: Glass) -> None:
    """The portal's, an owner's, terms, suspension, a new session of the operator's, and time."""

    async def case(server: Server) -> None:
        def ending(opened: Any, code: str) -> Callable[[], Any]:
            return lambda: glass.access.end(opened.ticket.ticket, code)

        for code in ("portal", "owner"):
            opened = everything(glass)
            await cut_within(server, opened, ending(opened, code))
        opened = everything(glass)
        await cut_within(server, opened, lambda: glass.session(opened))
        async with glass.access.tended():
            await cut_within(server, opened, lambda: glass.clock.go(1800), 3.0)
        opened = everything(glass)
        await cut_within(server, opened, lambda: glass.take_terms(ordinary="closed"))
        glass.take_terms(version=2)

        def suspend() -> None:
            glass.members.suspend(True)
            glass.access.changed()

        opened = everything(glass)
        await cut_within(server, opened, suspend)

    run(glass, case)
    assert glass.ends() == ["portal", "owner", "expired", "closed", "suspended"]
    assert [each["detail"].get("streams") for each in glass.receipts() if each["event"] == "ended"] == [2] * 5
    outcomes = [each["detail"]["status"] for each in glass.receipts() if each["event"] == "outcome"]
    assert outcomes == [499] * 6


def test_an_end_cuts_only_its_own(glass: Glass) -> None:
    """Another ticket's stream goes on."""

    async def case(server: Server) -> None:
        first, second = everything(glass), everything(glass)
        other = await server.ask(second, "GET", STREAM, glass.session(second))
        assert await other.content.readany() == b"some"
        await cut_within(server, first, lambda: glass.access.end(first.ticket.ticket, "portal"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await other.content.read()
        assert server.killed == []
        glass.access.end(second.ticket.ticket, "portal")

    run(glass, case)


def test_a_doubted_clock_cuts_and_does_not_end(glass: Glass) -> None:

    async def case(server: Server) -> None:
        opened = everything(glass)

        def doubt() -> None:
            glass.clock.right = False
            glass.access.look()

        await cut_within(server, opened, doubt)
        glass.clock.right = True
        assert await server.code(opened, "GET", "/v1/break-glass/status", glass.session(opened)) == "ok"

    run(glass, case)


def test_each_request_asks_again(glass: Glass) -> None:
    """Though no watch has noticed anything yet. That each chunk asks: test_a_read_ends_with_its_time."""

    async def case(server: Server) -> None:
        opened = everything(glass)
        session = glass.session(opened)
        await server.code(opened, "GET", "/v1/break-glass/status", session)
        glass.members.suspend(True)
        assert await server.code(opened, "GET", "/v1/break-glass/status", session) == "suspended"
        glass.members.suspend(False)
        glass.clock.monotonic += 1800
        assert await server.code(opened, "GET", "/v1/break-glass/status", session) == "expired"

    run(glass, case)


def test_slow_operators_keep_no_member_out(tmp_path: Path) -> None:
    """Their streams have places of their own, and at most so many; members' are all still free."""

    async def served_slowly(*_given: Any) -> web.Response:
        return web.Response()

    gate = object.__new__(Gate)
    gate.streams, gate.operators_streams = Places(most=0), Places(most=1)
    gate.guard = Mock(visit=served_slowly)
    token = bg_token(everything(Glass(tmp_path)), "GET", STREAM)

    async def status() -> int:
        request = make_mocked_request("GET", STREAM)
        answer = await gate._under_ticket(request, served_slowly, token, Access.BREAK_GLASS, Flow.OUT)
        return answer.status

    async def case() -> tuple[int, int]:
        free = await status()
        with gate.operators_streams.place("another ticket"):
            return free, await status()

    assert asyncio.run(case()) == (200, 429)


def test_suspension_ends_members_sessions_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """First what needs no disk: else they would live again when the machine is opened again."""

    async def suspended(*_given: Any) -> bool:
        return True

    monkeypatch.setattr("guest.agent.routes.json_flag", suspended)
    routes = object.__new__(Routes)
    routes._gate, routes._break_glass = Mock(), Mock()
    routes._break_glass.changed.side_effect = sqlite3.OperationalError("full")
    with pytest.raises(sqlite3.OperationalError):
        asyncio.run(routes.suspend(make_mocked_request("PUT", "/v1/suspended")))
    routes._gate.sessions.end_all.assert_called_once()
