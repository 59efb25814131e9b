"""Paths that try to leave the workspace. None does: what lies outside is neither read nor changed."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from guest.agent.archive import archive
from guest.agent.beneath import WorkspaceRefused
from guest.agent.workspace import Limits, Workspace
from tests.guest.files import FILES, Person, at
from tests.guest.test_workspace import person, space  # noqa: F401 - fixtures

MARK = b"tell-tale of the world outside"
SOMEBODY = 54321


@dataclass
class Ground:
    """A workspace full of traps, and what they lead to."""

    folder: Path
    workspace: Workspace

    @property
    def outside(self) -> dict[str, bytes]:
        found = self.folder / "outside"
        return {str(path): path.read_bytes() for path in sorted(found.rglob("*")) if path.is_file()}


def prepare(folder: Path) -> Ground:
    """Also where a test brings its own workspace."""
    inside, outside = folder / "workspace", folder / "outside"
    inside.mkdir(exist_ok=True)
    (outside / "deep").mkdir(parents=True)
    (outside / "marker").write_bytes(MARK)
    (outside / "deep/marker").write_bytes(MARK)
    if os.geteuid() == 0:
        os.chown(outside / "marker", SOMEBODY, SOMEBODY)
    (inside / "real").mkdir()
    (inside / "real/file").write_bytes(b"inside")
    (inside / "abs").symlink_to(outside)
    (inside / "up").symlink_to("../outside")
    (inside / "file-out").symlink_to("../outside/marker")
    (inside / "proc").symlink_to("/proc/self/root")
    (inside / "loop").symlink_to("loop")
    (inside / "within").symlink_to("real")
    os.link(outside / "marker", inside / "hard")
    os.mkfifo(inside / "pipe")
    return Ground(folder, Workspace(inside, Limits(reserve=0)))


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = prepare(tmp_path)
    before = made.outside
    yield made
    assert made.outside == before


ATTACKS = [
    "..", "../outside/marker", "real/../../outside/marker", "/etc/passwd", "//etc/passwd", "./real/file", "real//file",
    "real/", "abs/marker", "up/marker", "up/deep/marker", "file-out", "proc/etc/passwd", "loop", "loop/x", "pipe",
    "a\0b", "real/file\0.txt", "x" * 256, "y/" * 2100 + "z", "\udcff", "%2e%2e/outside/marker", "..%2foutside",
    "\uff0e\uff0e/outside/marker", "\u2024\u2024/outside/marker", "..\u2215outside\u2215marker", "..\\outside\\marker", "/proc/self/root/etc/passwd",
    "within/../../outside/marker", "",
]  # fmt: skip


def everything(workspace: Workspace, path: str) -> bytes:
    """Try whatever a member may do there; what could be read."""
    seen = b""
    try:
        opened = workspace.open_file(path)
        seen += os.read(opened.descriptor, 1 << 16)
        os.close(opened.descriptor)
    except WorkspaceRefused:
        pass
    for deed in (
        lambda: put(workspace, path),
        lambda: workspace.listing(path) if path else None,
        lambda: b"".join(archive(workspace, path)) if path else b"",
        lambda: workspace.make_folder(path),
        lambda: workspace.delete(path, recursive=True),
    ):
        try:
            found = deed()
            seen += found if isinstance(found, bytes) else repr(found).encode()
        except WorkspaceRefused:
            pass
    return seen


def put(workspace: Workspace, path: str) -> None:
    upload = workspace.begin(path, 3)
    try:
        upload.write(b"bad")
        upload.finish(sha256(b"bad").hexdigest())
    finally:
        upload.abort()


@pytest.mark.parametrize("path", ATTACKS)
def test_attacks(ground: Ground, path: str) -> None:
    """Nothing but refusals that say why, or names that mean what they say."""
    seen = everything(ground.workspace, path)
    assert MARK not in seen
    assert b"root:" not in seen
    assert b"deep" not in seen


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("abs/marker", "outside"),
        ("up/marker", "outside"),
        ("file-out", "outside"),
        ("proc/etc/passwd", "outside"),
        ("loop", "outside"),
        ("pipe", "not_a_file"),
        ("real", "is_a_folder"),
        ("../x", "bad_path"),
        ("a\0", "bad_path"),
        ("\udcff", "bad_path"),
        ("x" * 256, "bad_path"),
        ("none", "not_found"),
        ("real/file/x", "not_a_folder"),
    ],
)
def test_words(ground: Ground, path: str, code: str) -> None:
    with pytest.raises(WorkspaceRefused) as refused:
        ground.workspace.open_file(path)
    assert refused.value.code == code


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file somebody else's")
def test_hard_links(ground: Ground) -> None:
    """A second name of somebody else's file is not read, nor archived; one of the owner's own is."""
    with pytest.raises(WorkspaceRefused, match="hard links"):
        ground.workspace.open_file("hard")
    assert MARK not in b"".join(archive(ground.workspace, ""))
    os.link(ground.folder / "workspace/real/file", ground.folder / "workspace/again")
    os.close(ground.workspace.open_file("again").descriptor)


def test_links_that_stay_inside(ground: Ground) -> None:
    opened = ground.workspace.open_file("within/file")
    assert os.read(opened.descriptor, 100) == b"inside"
    os.close(opened.descriptor)


def test_deleting_a_link_leaves_what_it_leads_to(ground: Ground) -> None:
    for name in ("abs", "up", "within", "hard"):
        assert ground.workspace.delete(name, recursive=True)["removed"] == 1
    assert (ground.folder / "workspace/real/file").exists()
    (ground.folder / "workspace/real/out").symlink_to(ground.folder / "outside")
    ground.workspace.delete("real", recursive=True)


def test_swapped_while_used(ground: Ground) -> None:
    """A folder that turns into a link to the outside, and back, over and over."""
    inside, stop = ground.folder / "workspace", threading.Event()
    (inside / "spare").symlink_to("../outside")
    (inside / "turn").mkdir()
    (inside / "turn/marker").write_bytes(b"inside")

    def swap() -> None:
        while not stop.is_set():
            for one, other in (("turn", "t1"), ("spare", "turn"), ("turn", "spare"), ("t1", "turn")):
                (inside / one).rename(inside / other)

    thread = threading.Thread(target=swap)
    thread.start()
    read = refused = 0
    try:
        until = time.monotonic() + 60
        while (refused < 20 or not read) and time.monotonic() < until:
            try:
                opened = ground.workspace.open_file("turn/marker")
            except WorkspaceRefused as refusal:
                refused += refusal.code == "outside"
                continue
            assert os.read(opened.descriptor, 100) == b"inside"
            os.close(opened.descriptor)
            read += 1
        for _ in range(200):
            try:
                put(ground.workspace, "turn/new")
                ground.workspace.delete("turn/new", recursive=False)
                b"".join(archive(ground.workspace, "turn"))
            except WorkspaceRefused:
                refused += 1
    finally:
        stop.set()
        thread.join(10)
    assert read
    assert refused
    assert not (ground.folder / "outside/new").exists()


PIECES = st.sampled_from(
    ["..", ".", "", "real", "within", "abs", "up", "proc", "file-out", "hard", "file", "marker", "deep", "etc", "passwd",
     "self", "root", "\0", "loop", "\uff0e\uff0e", "outside", "~", "*", "\udc80", "pipe"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.one_of(
        st.text(max_size=60), st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=7).map("/".join)
    )
)
@example(path="up/../outside/marker")
def test_generated(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    made = prepare(tmp_path_factory.mktemp("g"))
    before = made.outside
    seen = everything(made.workspace, path)
    assert MARK not in seen
    assert b"root:" not in seen
    assert made.outside == before


@pytest.mark.parametrize("path", [each for each in ATTACKS if each.isprintable()])
def test_through_the_agent(person: Person, site: object, tmp_path: Path, path: str) -> None:  # noqa: F811
    """The same by way of HTTP: a refusal in the one shape, never a fault of the agent's."""
    made = prepare(person.site.folder)
    before = made.outside
    for answer in (
        person.get(path),
        person.put(path, b"bad") if len(path) < 2000 else person.get(path),
        person.delete(path, recursive="1") if path else person.get(path),
    ):
        assert answer.status in {200, 201, 400, 403, 404, 409, 414}, answer.document
        assert MARK not in answer.body
    assert made.outside == before


@pytest.mark.parametrize(
    "query", ["path=%00", "path=%ff", "path=a&path=b", "path=a&x=1", "path", "path=a;b=%zz&", "p\xe9"]
)
def test_queries(person: Person, query: str) -> None:  # noqa: F811
    try:
        got = person.ask("GET", f"{FILES}?{query}")
    except UnicodeEncodeError:
        return
    assert got.status in {400, 404}
    assert person.ask("GET", at(FILES, path="..")).code == "bad_path"
