"""The check of an image: what it believes, what it writes, and that an image which fails its turn is not good."""

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from guest.image import check, gateway_tree, recipe
from guest.image.build import FILES
from guest.image.gateway_seed import emptied
from guest.image.gateway_tree import INPUTS, digest

GOOD = f'{check.PREFIX}{{"good": true, "ready": 90.0}}\n'
QEMU = """#!/bin/sh
while [ "$1" != -serial ]; do shift; done
cat {serial} >"${{2#file:}}"
exit {status}
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder that looks like a built image."""
    folder = tmp_path / "g-1"
    folder.mkdir()
    for name in check.FILES:
        (folder / name).write_bytes(name.encode())
    (folder / "manifest.json").write_text(json.dumps({"cmdline": "quiet"}))
    return folder


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """QEMU's stand-in: writes the given serial output and ends."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def says(serial: str, status: int = 0) -> None:
        (tmp_path / "serial").write_text(serial)
        program = programs / "qemu-system-x86_64"
        program.write_text(QEMU.format(serial=tmp_path / "serial", status=status))
        program.chmod(0o755)

    return says


def test_a_good_image_is_marked_with_its_digests(image: Path, machine: Any) -> None:
    machine(f"noise\n{GOOD}more noise\n")
    found = check.ensure(image, lambda _: None)
    assert (found["good"], found["ready"]) == (True, 90.0)
    assert check.is_good(image, found["sha256"])
    assert set(found["sha256"]) == set(FILES)


@pytest.mark.parametrize(
    "serial",
    [
        "",
        "panic\n",
        f"{check.PREFIX}\n",
        f"{check.PREFIX}[]\n",
        f"{check.PREFIX}{{}}\n",
        f'{check.PREFIX}{{"good": 1}}\n',
        f'{check.PREFIX}{{"good": false, "reason": "the turn failed"}}\n',
        f" {GOOD}",
        f'{GOOD}{check.PREFIX}{{"good": false}}\n',
    ],
)
def test_what_is_not_plainly_good_is_not(image: Path, machine: Any, serial: str) -> None:
    machine(serial)
    found = check.ensure(image, lambda _: None)
    assert found["good"] is False
    assert not check.is_good(image, found["sha256"])


def test_a_mark_is_for_just_these_files(image: Path, machine: Any) -> None:
    """A changed file needs a check of its own, and loses the mark if it fails."""
    machine(GOOD)
    before = check.ensure(image, lambda _: None)
    machine("")
    assert check.ensure(image, lambda _: None) == before
    (image / "root.img").write_bytes(b"other")
    after = check.ensure(image, lambda _: None)
    assert after["good"] is False
    assert not check.is_good(image, after["sha256"])
    assert not check.is_good(image, before["sha256"])


def test_no_machine_is_no_verdict(image: Path, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(GOOD, status=1)
    with pytest.raises(check.CheckError):
        check.ensure(image, lambda _: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(check.CheckError, match="install"):
        check.ensure(image, lambda _: None)
    (image / "root.img").unlink()
    with pytest.raises(check.CheckError, match="build"):
        check.ensure(image, lambda _: None)
    assert check.read(image) == {}


def test_its_machine_reaches_nothing(image: Path, tmp_path: Path) -> None:
    line = check.command(image, tmp_path / "data", tmp_path / "serial")
    assert line[line.index("-nic") + 1] == "none"
    assert line[line.index("-append") + 1] == f"quiet {check.TARGET}"
    assert any("root.img,readonly=on" in part for part in line)


def test_only_the_hosts_command_line_starts_it() -> None:
    """Beside an agent the self-test must not run, and nothing wants it by itself."""
    units = recipe.OVERLAY / "etc/systemd/system"
    assert f"ConditionKernelCommandLine={check.TARGET}\n" in (units / "portal-selftest.service").read_text()
    assert "selftest" not in (units / "portal.target").read_text()
    assert check.TARGET not in recipe.CMDLINE


def test_a_seed_keeps_tables_and_no_rows(tmp_path: Path) -> None:
    """What a first run noted of itself would be the same in all guests, so it is not kept."""
    source, target = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    with sqlite3.connect(source) as database:
        database.execute("create table schema_meta (name text)")
        database.execute("insert into schema_meta values ('startup-migrations')")
        database.execute("create table identities (key text)")
        database.execute("insert into identities values ('private-marker')")
    emptied(source, target)
    with sqlite3.connect(target) as database:
        assert database.execute("select name from schema_meta").fetchall() == [("startup-migrations",)]
        assert database.execute("select count(*) from identities").fetchone() == (0,)
    assert b"private-marker" not in target.read_bytes()


@pytest.mark.parametrize("name", INPUTS)
def test_the_tree_follows_its_inputs(tmp_path: Path, name: str) -> None:
    """Each input gives another tree; the agent is none of them."""
    for each in INPUTS:
        path = tmp_path / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(each)
    before = digest(tmp_path)
    (tmp_path / name).write_text("changed")
    assert digest(tmp_path) != before
    assert not [each for each in INPUTS if each.startswith("guest/agent")]


def test_a_tree_is_kept_for_the_next_build_and_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sources, two trees: changing back and forth builds neither again. A third pushes out the oldest."""
    built: list[str] = []

    def build(work: Path, _: Any) -> Path:
        (work / "tree").mkdir()
        (work / "tree" / gateway_tree.REPORT).write_text("{}")
        built.append(gateway_tree.digest())
        return work / "tree"

    monkeypatch.setattr(gateway_tree, "_build_in", build)
    for number, name in enumerate(["a", "b", "a", "c", "d"]):
        monkeypatch.setattr(gateway_tree, "digest", lambda name=name: name * 12)
        found = gateway_tree.ensure(tmp_path, lambda _: None)
        os.utime(found / gateway_tree.REPORT, (number, number))
    assert [each[0] for each in built] == ["a", "b", "c", "d"]
    assert {path.name[2] for path in tmp_path.glob("t-*")} == {"a", "c", "d"}


@pytest.mark.slow
@pytest.mark.guest
@pytest.mark.timeout(1800)
def test_an_image_whose_gateway_cannot_do_a_turn_is_not_good(
    real_image_directory: Path, real_engine: str, tmp_path: Path
) -> None:
    """Without its templates the release starts, says that it is ready, and fails every turn: seen, not believed."""
    assert check.read(real_image_directory).get("good") is True
    broken = tmp_path / "g-broken"
    broken.mkdir()
    for name in ("vmlinuz", "initrd.img", "manifest.json"):
        shutil.copy(real_image_directory / name, broken / name)
    root = tmp_path / "root"
    subprocess.run(
        ["fsck.erofs", f"--extract={root}", "--preserve", real_image_directory / "root.img"], check=True
    )
    package = root / recipe.GATEWAY_HOME / "node_modules/openclaw"
    shutil.rmtree(package / "docs")
    shutil.rmtree(package / "src/agents/templates")
    subprocess.run(["mkfs.erofs", "--quiet", f"-T{recipe.EPOCH}", broken / "root.img", root], check=True)
    found = check.ensure(broken, lambda _: None)
    assert found["good"] is False
    assert "turn" in found["reason"]
