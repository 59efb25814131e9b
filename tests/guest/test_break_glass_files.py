"""The workspace under a ticket: only by its paths, over no link, chunk by chunk, and told in receipts."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from aiohttp import ClientError, ClientResponse

from guest.agent.archive import CHUNK
from guest.agent.breakglass.files import Files
from guest.agent.walk import walk
from guest.agent.workspace import Limits, Workspace
from protocol.receipt_texts import exact
from tests.guest.glass import OWN_PAGE, Glass, Server, bg_token, served
from tests.protocol.ticketing import ANN, BEN, a_grant, a_ticket

COMPOSED, DECOMPOSED = "\u00e9.txt", "e\u0301.txt"
CANARY = b"nobody approved this"
READ_WRITE = ["workspace:read", "workspace:write"]


@dataclass
class Operator:
    """Signed in under a ticket for ``logs`` and ``notes/today.txt``."""

    server: Server
    opened: Any
    session: str

    async def ask(self, method: str, route: str, body: Any = None, **query: str) -> ClientResponse:
        where = f"/v1/break-glass/{route}" + (f"?{urlencode(query)}" if query else "")
        return await self.server.ask(self.opened, method, where, self.session, body)

    async def code(self, method: str, route: str, body: Any = None, **query: str) -> str:
        answer = await self.ask(method, route, body, **query)
        return "ok" if answer.status < 300 else str((await answer.json())["error"])

    async def put(self, path: str, data: bytes, **headers: str) -> ClientResponse:
        where = f"/v1/break-glass/files?{urlencode({'path': path})}"
        self.server.tokens.append(bg_token(self.opened, "PUT", where))
        stated = {"X-Content-SHA256": sha256(data).hexdigest(), "Cookie": f"__Host-bg={self.session}"}
        return await self.server.client.put(
            self.server.url + where, data=data, headers=OWN_PAGE | stated | headers
        )


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@dataclass
class Ground:
    """A workspace with what is covered, what is not, and links between them."""

    glass: Glass
    folder: Path

    def run(self, case: Callable[[Operator], Awaitable[None]], **ticket: Any) -> None:
        document = a_ticket(**{"scopes": READ_WRITE, **ticket})

        async def whole() -> None:
            files = Files(Workspace(self.folder, Limits(reserve=0)), 5.0)
            async with asyncio.timeout(30), served(self.glass, files.handlers()) as server:
                opened = self.glass.access.take(a_grant(document, by=[ANN, BEN]))
                await case(Operator(server, opened, self.glass.session(opened)))

        asyncio.run(whole())

    def untouched(self) -> bool:
        secret = self.folder / "secret"
        return (secret / "key").read_bytes() == CANARY and names(secret) == ["key"]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    folder = tmp_path / "workspace"
    for name in ("logs/old", "notes", "secret", "logs-of-others"):
        (folder / name).mkdir(parents=True)
    (folder / "secret" / "key").write_bytes(CANARY)
    (folder / "notes" / "today.txt").write_text("a note")
    (folder / "notes" / "private.txt").write_bytes(CANARY)
    (folder / "logs-of-others" / "a").write_bytes(CANARY)
    (folder / "logs" / "a.log").write_bytes(b"0123456789")
    (tmp_path / "agent").mkdir()
    return Ground(Glass(tmp_path / "agent"), folder)


def test_what_a_ticket_lets_an_operator_do(ground: Ground) -> None:
    """List, read, read a part, write, make a folder, delete: all below its paths; the receipts say how much."""

    async def case(operator: Operator) -> None:
        listed = await (await operator.ask("GET", "list", path="logs")).json()
        assert [entry["name"] for entry in listed["entries"]] == ["a.log", "old"]
        answer = await operator.ask("GET", "files", path="logs/a.log")
        assert await answer.read() == b"0123456789"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert await (await operator.ask("GET", "files", path="notes/today.txt")).read() == b"a note"
        assert (await operator.put("logs/new.log", b"new")).status == 201
        assert await operator.code("POST", "folders", {"path": "logs/made"}) == "ok"
        assert await operator.code("DELETE", "files", path="logs/old") == "ok"

    ground.run(case)
    assert (ground.folder / "logs" / "new.log").read_bytes() == b"new"
    assert names(ground.folder / "logs") == ["a.log", "made", "new.log"]
    told: dict[str, Any] = {}
    for receipt in ground.glass.receipts():
        if receipt["event"] in {"access", "outcome"}:
            told.setdefault(receipt["token"], {}).update(receipt["detail"])
    found = [(each["method"], each["path"], each.get("bytes"), each.get("sha256")) for each in told.values()]
    assert ("GET", "logs/a.log", 10, sha256(b"0123456789").hexdigest()) in found
    assert ("PUT", "logs/new.log", 3, sha256(b"new").hexdigest()) in found
    assert ("GET", "logs", None, None) in found
    assert CANARY.decode() not in str(ground.glass.receipts())


def test_a_part_of_a_file(ground: Ground) -> None:
    async def case(operator: Operator) -> None:
        where = "/v1/break-glass/files?path=logs/a.log"
        operator.server.tokens.append(bg_token(operator.opened, "GET", where))
        headers = OWN_PAGE | {"Cookie": f"__Host-bg={operator.session}", "Range": "bytes=2-4"}
        answer = await operator.server.client.get(operator.server.url + where, headers=headers)
        assert (answer.status, await answer.read()) == (206, b"234")

    ground.run(case)
    access, outcome = (each["detail"] for each in ground.glass.receipts()[-2:])
    assert (access["range"], outcome["bytes"], outcome["status"]) == ("2-4", 3, 206)


def test_a_whole_tree_deleted_is_told_as_that(ground: Ground) -> None:
    (ground.folder / "logs" / "old" / "one").touch()

    async def case(operator: Operator) -> None:
        assert await operator.code("DELETE", "files", path="logs/old", recursive="1") == "ok"

    ground.run(case)
    access, outcome = (each["detail"] for each in ground.glass.receipts()[-2:])
    assert (access["path"], access["recursive"], outcome["removed"]) == ("logs/old", "1", 2)


def test_a_deletion_stops_when_its_access_ends(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a tree, and soon: its thread asks before each entry."""
    tree, begun, cut = ground.folder / "logs" / "old", Event(), Event()
    for number in range(20):
        (tree / f"{number:02}").touch()

    def slow(folder: int, name: str) -> Iterator[Any]:
        for count, step in enumerate(walk(folder, name)):
            if count == 5:
                begun.set()
                assert cut.wait(20)
            yield step

    monkeypatch.setattr("guest.agent.workspace.walk", slow)

    async def case(operator: Operator) -> None:
        asking = asyncio.create_task(operator.ask("DELETE", "files", path="logs/old", recursive="1"))
        await asyncio.to_thread(begun.wait, 20)
        ground.glass.access.end(operator.opened.ticket.ticket, "owner")
        asyncio.get_running_loop().call_later(0.2, cut.set)
        await asyncio.wait([asking])
        while ground.glass.events()[-1] != "outcome":
            await asyncio.sleep(0.01)

    ground.run(case)
    assert len(names(tree)) == 15
    told = ground.glass.receipts()[-1]["detail"]
    assert (told["status"], told["removed"]) == (499, 5)


def test_a_receipt_names_the_file_that_was_read(ground: Ground) -> None:
    """Its canonical form is NFC, in which these two would have one name; and a hidden character is seen."""
    for name in (COMPOSED, DECOMPOSED, "a\u202etxt.exe"):
        (ground.folder / "logs" / name).write_text(name)

    async def case(operator: Operator) -> None:
        for name in (COMPOSED, DECOMPOSED, "a\u202etxt.exe"):
            answer = await operator.ask("GET", "files", path=f"logs/{name}")
            assert (await answer.read()).decode() == name
        assert await operator.code("GET", "files", path=f"notes/{DECOMPOSED}") == "wrong_path"

    ground.run(case)
    told = [each["detail"] for each in ground.glass.receipts() if each["event"] in {"access", "refused"}]
    assert [exact(each, "path") for each in told] == [
        f"logs/{COMPOSED}",
        f"logs/{DECOMPOSED}",
        "logs/a\u202etxt.exe",
        f"notes/{DECOMPOSED}",
    ]
    assert told[0]["path"] == f"logs/{COMPOSED}"
    assert all(each["path"].isascii() and each["escaped"] == ["path"] for each in told[1:])


LINKS = {"logs/whole": "../secret", "logs/key": "../secret/key", "logs/up": "..", "logs/abs": "/etc"}


@pytest.mark.parametrize(
    "path", ["logs/whole", "logs/whole/key", "logs/key", "logs/up/secret/key", "logs/abs/hostname"]
)
def test_no_link_leads_out_of_the_ticket(ground: Ground, path: str) -> None:
    """A member follows a link that stays in the workspace; a ticket covers where it leads, or nothing is done."""
    for name, target in LINKS.items():
        (ground.folder / name).symlink_to(target)

    async def case(operator: Operator) -> None:
        codes = {
            await operator.code("GET", "list", path=path),
            await operator.code("GET", "files", path=path),
            await operator.code("POST", "folders", {"path": f"{path}/made"}),
            await operator.code("DELETE", "files", path=f"{path}/key", recursive="1"),
        }
        answer = await operator.put(f"{path}/planted", b"x")
        codes.add((await answer.json())["error"])
        assert codes <= {"outside", "not_a_folder"}, codes
        assert "outside" in codes

    members = Workspace(ground.folder, Limits(reserve=0))
    os.close(members.open_file("logs/whole/key").descriptor)
    ground.run(case)
    assert ground.untouched()


def test_a_link_is_replaced_and_deleted_never_followed(ground: Ground) -> None:
    """Whoever may change files may take a link away; what it leads to stays as it is."""
    (ground.folder / "logs" / "key").symlink_to("../secret/key")
    (ground.folder / "logs" / "whole").symlink_to("../secret")

    async def case(operator: Operator) -> None:
        assert await operator.code("DELETE", "files", path="logs/whole", recursive="1") == "ok"
        answer = await operator.put("logs/key", b"mine")
        assert answer.status in {201, 200, 409}

    ground.run(case)
    assert ground.untouched()
    assert not (ground.folder / "logs" / "whole").is_symlink()


ESCAPES = ["logs/../secret/key", "secret/key", "logs/./../secret", "/etc/passwd", "logs//a.log", "logs/a.log/",
           "logs-of-others/a", "notes", "notes/private.txt", "notes/today.txt.bak", "", "logs\0", "LOGS", "logs/..",
           "..", ".", "logs\\..\\secret"]  # fmt: skip


@pytest.mark.parametrize("path", ESCAPES)
def test_no_way_of_writing_a_path_leads_out(ground: Ground, path: str) -> None:
    """Nothing is repaired: a path is covered as it is written, by whole names, or refused."""

    async def case(operator: Operator) -> None:
        asked = (
            await operator.code("GET", "files", path=path),
            await operator.code("GET", "list", path=path),
            await operator.code("DELETE", "files", path=path, recursive="1"),
            await operator.code("POST", "folders", {"path": path}),
            str((await (await operator.put(path, b"x")).json())["error"]),
        )
        assert set(asked) <= {"wrong_path", "bad_path", "bad_request"}, asked
        twice = f"/v1/break-glass/files?path=logs/a.log&path={quote(path)}"
        assert await operator.server.code(operator.opened, "GET", twice, operator.session) == "bad_request"

    ground.run(case)
    assert ground.untouched()
    noted = [each for each in ground.glass.receipts() if each["event"] in {"access", "refused"}]
    assert len({each["token"] for each in noted}) == len(noted) == 6, "each try has its receipt"


def test_reading_is_not_writing(ground: Ground) -> None:
    """A ticket to read changes nothing, and the tries are in the receipts."""

    async def case(operator: Operator) -> None:
        assert await operator.code("GET", "files", path="logs/a.log") == "ok"
        assert (await (await operator.put("logs/a.log", b"x")).json())["error"] == "wrong_scope"
        assert await operator.code("DELETE", "files", path="logs/a.log") == "wrong_scope"
        assert await operator.code("POST", "folders", {"path": "logs/made"}) == "wrong_scope"

    ground.run(case, scopes=["workspace:read"])
    assert names(ground.folder / "logs") == ["a.log", "old"]
    refused = [each["detail"]["code"] for each in ground.glass.receipts() if each["event"] == "refused"]
    assert refused == ["wrong_scope"] * 3


SIZE = 48 << 20


def test_a_read_ends_with_its_time(ground: Ground) -> None:
    """Nothing but the chunk's own question tells here that the time is over: and no further chunk goes out."""
    with (ground.folder / "logs" / "long").open("wb") as file:
        file.truncate(SIZE)
    got = bytearray()

    async def case(operator: Operator) -> None:
        answer = await operator.ask("GET", "files", path="logs/long")
        got.extend(await answer.content.readexactly(1000))
        ground.glass.clock.go(1801)
        with pytest.raises(ClientError):
            async for piece in answer.content.iter_any():
                got.extend(piece)

    ground.run(case)
    assert 1000 <= len(got) < SIZE // 2
    outcome = ground.glass.receipts()[-1]
    assert outcome["event"] == "outcome"
    assert outcome["detail"]["bytes"] < SIZE
    assert outcome["detail"]["status"] == 499, "what was cut must not be told as served"


@pytest.mark.parametrize("last", [b"b", b""], ids=["in the middle", "before its name"])
def test_a_write_ends_with_its_time(ground: Ground, last: bytes) -> None:
    """What arrives after the end gets no name, nor what arrived before it, and nothing is left behind."""
    first = b"a" * CHUNK

    def kept() -> bool:
        found = list((ground.folder / "logs").glob(".unfinished-*"))
        return bool(found) and found[0].stat().st_size == len(first)

    async def case(operator: Operator) -> None:
        async def late() -> AsyncIterator[bytes]:
            yield first
            while not kept():
                await asyncio.sleep(0.01)
            ground.glass.clock.go(1801)
            yield last

        where = "/v1/break-glass/files?path=logs/late"
        operator.server.tokens.append(bg_token(operator.opened, "PUT", where))
        stated = {"X-Content-SHA256": sha256(first + last).hexdigest()}
        headers = OWN_PAGE | stated | {"Cookie": f"__Host-bg={operator.session}"}
        answer = await operator.server.client.put(operator.server.url + where, data=late(), headers=headers)
        assert (answer.status, (await answer.json())["error"]) == (403, "expired")

    ground.run(case)
    assert names(ground.folder / "logs") == ["a.log", "old"]


def test_an_operators_listing_leaves_members_uploads_alone(tmp_path: Path) -> None:
    """Both know of each other's uploads under way: neither takes them for what a crash has left."""
    members = Workspace(tmp_path, Limits(reserve=0))
    operators = members.without_links()
    upload = members.begin("a", None)
    assert operators.listing("")["entries"] == []
    upload.write(b"x")
    assert upload.finish(sha256(b"x").hexdigest())["created"]
    (tmp_path / f".unfinished-{'a' * 32}").touch()
    operators.listing("")
    assert names(tmp_path) == [f".unfinished-{'a' * 32}", "a"], "who may only read deletes nothing"
    upload = operators.begin("b", None)
    members.listing("")
    assert upload.finish(sha256(b"").hexdigest())["created"]


def test_a_change_is_saved_over_what_was_read_and_over_nothing_else(ground: Ground) -> None:
    """``If-Match``: what the tenant wrote meanwhile stays, and so does nothing where the file has gone."""
    file = ground.folder / "logs" / "a.log"

    async def case(operator: Operator) -> None:
        tag = (await operator.ask("GET", "files", path="logs/a.log")).headers["ETag"]
        assert (await operator.put("logs/a.log", b"mine", **{"If-Match": tag})).status == 200
        answer = await operator.put("logs/a.log", b"again", **{"If-Match": tag})
        assert (answer.status, (await answer.json())["error"]) == (412, "changed")
        assert file.read_bytes() == b"mine"
        file.unlink()
        answer = await operator.put("logs/a.log", b"again", **{"If-Match": tag})
        assert (answer.status, (await answer.json())["error"]) == (404, "not_found")

    ground.run(case)
    assert names(ground.folder / "logs") == ["old"]
