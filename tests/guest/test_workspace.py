"""The workspace through a real agent: what is written is read back, whole or not at all, and in bounds."""

import io
import os
import socket
import stat
import tarfile
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest.agent.content import SLACK_SECONDS
from guest.agent.gate import ACCESS, MEMBERS_ONLY, Access
from guest.agent.streams import MAX_STREAMS_EACH, STREAMED
from guest.agent.workspace import Limits, Workspace
from tests.guest.conftest import Site
from tests.guest.files import FILES, Person, at
from tests.guest.fleet import Agent, running
from tests.guest.test_gate import call, pin, sign_in


def arrive(agent: Agent, site: Site) -> Person:
    (site.folder / "workspace").mkdir(exist_ok=True)
    pin(agent, site)
    return Person(agent, site, str(sign_in(agent, site)[1]["session"]))


@pytest.fixture
def person(agent: Agent, site: Site) -> Person:
    return arrive(agent, site)


@pytest.fixture
def space(site: Site) -> Path:
    return site.folder / "workspace"


def unfinished(space: Path) -> list[str]:
    return [each.name for each in space.iterdir() if each.name.startswith(".unfinished")]


def test_streamed_routes_are_members() -> None:
    """No other class may take a body's hash on its sender's word."""
    assert all(ACCESS[route] in {*MEMBERS_ONLY, Access.BREAK_GLASS} for route in STREAMED)


def test_write_read_delete(person: Person, space: Path) -> None:
    """The whole round, with the modes that the workspace's group needs whatever the agent's umask."""
    assert person.make_folder("src").status == 201
    body = os.urandom(3_000_001)
    made = person.put("src/ä b.bin", body)
    assert (made.status, made.document["sha256"]) == (201, sha256(body).hexdigest())
    assert person.put("src/ä b.bin", body).status == 200
    got = person.get("src/ä b.bin")
    assert (got.status, got.body) == (200, body)
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%A4%20b.bin"
    assert "sandbox" in got.headers["content-security-policy"]
    assert got.headers["x-content-type-options"] == "nosniff"
    assert stat.S_IMODE((space / "src").stat().st_mode) == 0o770
    assert stat.S_IMODE((space / "src/ä b.bin").stat().st_mode) == 0o660
    assert person.delete("src").code == "not_empty"
    assert person.delete("src", recursive="1").document == {"removed": 2, "complete": True}
    assert person.list().document == {"entries": [], "complete": True}


def test_the_body_is_what_was_stated(person: Person, space: Path) -> None:
    """Token and proof are perfect for the stated hash; another body changes nothing."""
    (space / "kept").write_text("old")
    refused = person.put("kept", b"new", sha256(b"else").hexdigest())
    assert (refused.status, refused.code) == (422, "hash_differs")
    assert (space / "kept").read_text() == "old"
    assert unfinished(space) == []


@pytest.mark.parametrize("stated", ["", "x" * 64, "A" * 64, "00"])
def test_a_hash_must_be_stated(person: Person, space: Path, stated: str) -> None:
    path, empty = at(FILES, path="a"), sha256(b"").hexdigest()
    headers = person.headers("PUT", path, empty) | ({"X-Content-SHA256": stated} if stated else {})
    line = person.line()
    line.request("PUT", path, b"body", headers)
    answer = line.getresponse()
    assert (answer.status, b"X-Content-SHA256" in answer.read()) == (400, True)
    assert list(space.iterdir()) == []


def test_a_proof_for_another_hash(person: Person, space: Path) -> None:
    """Who sees an upload pass cannot put another body under its signature, nor restate its hash."""
    path, good, bad = at(FILES, path="a"), sha256(b"good").hexdigest(), sha256(b"evil").hexdigest()
    line = person.line()
    line.request("PUT", path, b"evil", person.headers("PUT", path, good) | {"X-Content-SHA256": bad})
    assert line.getresponse().status == 401
    line = person.line()
    token_for_bad = person.headers("PUT", path, bad)["Authorization"]
    mixed = person.headers("PUT", path, good) | {"Authorization": token_for_bad, "X-Content-SHA256": bad}
    line.request("PUT", path, b"evil", mixed)
    answer = line.getresponse()
    assert (answer.status, b"proof_invalid" in answer.read()) == (403, True)
    assert list(space.iterdir()) == []


def begin(person: Person, path: str, length: int, first: bytes = b"x") -> socket.socket:
    """An upload that has sent its head and a little."""
    where, stated = at(FILES, path=path), "0" * 64
    headers = person.headers("PUT", where, stated) | {"X-Content-SHA256": stated}
    line = person.line()
    line.putrequest("PUT", where)
    for name, value in (headers | {"Content-Length": str(length)}).items():
        line.putheader(name, value)
    line.endheaders()
    line.send(first)
    return line.sock


def wait_for(met: object, seconds: float = 8.0) -> None:
    until = time.monotonic() + seconds
    while not met():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.02)


def test_an_upload_broken_off(person: Person, space: Path) -> None:
    """The old file stays, and nothing is left beside it; the listing never shows what is under way."""
    (space / "kept").write_text("old")
    line = begin(person, "kept", 1000)
    wait_for(lambda: unfinished(space))
    assert [each["name"] for each in person.list().document["entries"]] == ["kept"]
    assert unfinished(space), "a listing must not sweep a living upload"
    line.close()
    wait_for(lambda: not unfinished(space))
    assert (space / "kept").read_text() == "old"


def test_an_abandoned_file_is_swept(person: Person, space: Path) -> None:
    (space / f".unfinished-{'a' * 32}").write_text("of an agent that died")
    assert person.list().document["entries"] == []
    assert list(space.iterdir()) == []
    assert person.put(f".unfinished-{'a' * 32}", b"x").code == "bad_path"


def test_a_slow_upload(site: Site) -> None:
    """Silence ends it with 408."""
    with running(site.personalisation, site.data, "--patience", "0.5") as agent:
        person = arrive(agent, site)
        line = begin(person, "a", 1000)
        assert line.recv(100).startswith(b"HTTP/1.1 408")
        wait_for(lambda: not unfinished(site.folder / "workspace"))
    assert SLACK_SECONDS > 0


def test_limits(site: Site) -> None:
    """Too large, announced or not: 413. No room: 507. Nothing changes."""
    with running(site.personalisation, site.data, "--upload-limit", "1000") as agent:
        person = arrive(agent, site)
        assert person.put("a", b"x" * 1000).status == 201
        assert person.put("a", b"y" * 1001).code == "too_large"
        chunked = person.put("a", iter([b"y" * 900, b"y" * 900]), "0" * 64)
        assert (chunked.status, chunked.code) == (413, "too_large")
        assert person.get("a").body == b"x" * 1000
        assert unfinished(site.folder / "workspace") == []


def test_a_full_disk(site: Site) -> None:
    with running(site.personalisation, site.data, "--reserve", str(1 << 60)) as agent:
        person = arrive(agent, site)
        refused = person.put("a", b"x")
        assert (refused.status, refused.code) == (507, "disk_full")
        assert list((site.folder / "workspace").iterdir()) == []


def test_streams_at_once(person: Person, space: Path) -> None:
    """One person holds a few streams; one more is told to wait, and gets in when one has ended."""
    lines = [begin(person, f"f{number}", 1000) for number in range(MAX_STREAMS_EACH)]
    wait_for(lambda: len(unfinished(space)) == MAX_STREAMS_EACH)
    assert person.put("more", b"x").code == "too_many_streams"
    assert person.list().status == 200
    lines[0].close()
    wait_for(lambda: person.put("more", b"x").status == 201)
    for line in lines:
        line.close()


def test_a_closed_machine_ends_streams(person: Person, site: Site, space: Path) -> None:
    """Suspension reaches an upload that had begun before it."""
    body = b"x" * 400_000
    line = begin(person, "late", len(body), body[:300_000])
    wait_for(lambda: unfinished(space))
    assert call(person.agent, site, "PUT", "/v1/suspended", {"suspended": True})[0] == 200
    line.sendall(body[300_000:])
    assert line.recv(100).startswith(b"HTTP/1.1 403")
    assert not (space / "late").exists()


def test_the_same_name_at_once(person: Person, space: Path) -> None:
    """The last one stands, whole."""
    bodies = [bytes([number]) * 700_000 for number in range(3)]
    codes: list[int] = []
    headers = [(at(FILES, path="a"), body, sha256(body).hexdigest()) for body in bodies]
    people = [
        Person(person.agent, person.site, str(sign_in(person.agent, person.site)[1]["session"]))
        for _ in headers
    ]
    threads = [
        threading.Thread(target=lambda who=who, body=body: codes.append(who.put("a", body).status))
        for who, body in zip(people, bodies, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(codes) == 3
    assert set(codes) <= {200, 201}
    assert (space / "a").read_bytes() in bodies
    assert unfinished(space) == []


@pytest.mark.parametrize(
    ("asked", "status", "first", "end"),
    [
        ("bytes=0-3", 206, 0, 4),
        ("bytes=5-", 206, 5, 10),
        ("bytes=-3", 206, 7, 10),
        ("bytes=8-99", 206, 8, 10),
        ("bytes=0-9", 200, 0, 10),
        ("bytes=2-1", 416, 0, 0),
        ("bytes=10-", 416, 0, 0),
        ("bytes=0-1,3-4", 200, 0, 10),
        ("lines=1-2", 200, 0, 10),
        ("bytes=-", 200, 0, 10),
    ],
)
def test_ranges(person: Person, space: Path, asked: str, status: int, first: int, end: int) -> None:
    (space / "a").write_bytes(b"0123456789")
    got = person.get("a", Range=asked)
    assert got.status == status
    if status != 416:
        assert got.body == b"0123456789"[first:end]
    if status == 206:
        assert got.headers["content-range"] == f"bytes {first}-{end - 1}/10"


def test_resuming_a_file_that_changed(person: Person, space: Path) -> None:
    (space / "a").write_bytes(b"0123456789")
    tag = person.get("a").headers["etag"]
    assert person.get("a", Range="bytes=5-", If_Range=tag).body == b"56789"
    (space / "a").write_bytes(b"abcdefghij!")
    assert person.get("a", Range="bytes=5-", If_Range=tag).body == b"abcdefghij!"


def test_paging(person: Person, space: Path) -> None:
    """Ten thousand entries come in order, once each."""
    names = [f"n{number:05}" for number in range(10_000)]
    for name in names:
        (space / name).touch()
    found: list[str] = []
    page = person.list().document
    found += [each["name"] for each in page["entries"]]
    while not page["complete"]:
        page = person.list(after=page["next"]).document
        found += [each["name"] for each in page["entries"]]
    assert found == names


def test_archive(person: Person, space: Path) -> None:
    """Files, folders and links as they are; sockets, pipes and what a link leads to are not in it."""
    (space / "p/q").mkdir(parents=True)
    (space / "p/q/data").write_bytes(b"x" * 700_001)
    (space / "p" / ("long" * 50)).write_text("name")
    (space / "p/out").symlink_to("/etc/passwd")
    os.mkfifo(space / "p/pipe")
    got = person.ask("GET", at("/v1/workspace/archive", path="p"))
    assert got.status == 200
    with tarfile.open(fileobj=io.BytesIO(got.body)) as tar:
        assert sorted(tar.getnames()) == ["long" * 50, "out", "q", "q/data"]
        assert tar.getmember("out").linkname == "/etc/passwd"
        data = tar.extractfile("q/data")
        assert data is not None
        assert data.read() == b"x" * 700_001
    assert b"root:" not in got.body


def test_a_file_that_shrinks_while_read(tmp_path: Path) -> None:
    """The archive keeps to what its header announced."""
    from guest.agent.archive import _content

    (tmp_path / "a").write_bytes(b"x" * 1000)
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    try:
        assert len(b"".join(_content(descriptor, 3000))) == 3072
        os.lseek(descriptor, 0, os.SEEK_SET)
        assert b"".join(_content(descriptor, 500)) == b"x" * 500 + bytes(12)
    finally:
        os.close(descriptor)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=70_000), max_size=4))
def test_what_is_written_is_read(parts: list[bytes]) -> None:
    """Whatever the pieces were."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        space = Workspace(Path(name), Limits(reserve=0))
        upload = space.begin("a", None)
        for part in parts:
            upload.write(part)
        upload.finish(sha256(b"".join(parts)).hexdigest())
        upload.abort()
        opened = space.open_file("a")
        try:
            assert os.read(opened.descriptor, 1 << 20) == b"".join(parts)
            assert opened.size == sum(map(len, parts))
        finally:
            os.close(opened.descriptor)
