"""The host's own rules, against frames that libvirt's filters never see: real kernel, no guest needed."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.portalctl import walls
from tests.hostile import link

CHECKOUT = Path(walls.__file__).resolve().parents[2]
DATAGRAMS = [name for name in link.payloads("fe80::1", 0) if name.startswith("udp")]
PASSED_ON = range(2, 16)
"""A bridge itself drops 01:80:c2:00:00:01, and filters :00 like any other as long as it speaks no STP."""


def outcome(rules: Path | None) -> Any:
    """What the frames of a tap achieve in a network namespace of their own."""
    line = ["unshare", "--net", sys.executable, "-m", "tests.hostile.link", *([str(rules)] if rules else ())]
    done = subprocess.run(line, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_libvirts_filters_alone_let_a_guest_reach_the_host() -> None:
    """The hole that the walls close. When this fails, the kernel has changed: look whether they are still needed."""
    found = outcome(None)
    assert found["arrived"] == [[name, last] for name in DATAGRAMS for last in PASSED_ON]
    assert found["answered"] == [["arp", last] for last in PASSED_ON]
    assert found["halves"] == len(PASSED_ON)
    assert "default" in found["routes"]
    assert "2001:db8:e::/64" in found["routes"]


def test_behind_the_walls_nothing_arrives() -> None:
    assert outcome(walls.RULES) == {"arrived": [], "answered": [], "routes": ["fe80::/64"], "halves": 0}


@pytest.mark.parametrize(
    ("family", "what", "expected"), [("arp", "answered", "arp"), ("inet", "arrived", "udp")]
)
def test_each_wall_is_needed(family: str, what: str, expected: str, tmp_path: Path) -> None:
    """Without it LLDP's address is open. What comes in by the others is stopped twice."""
    changed, count = re.subn(
        rf'(table {family} portal_walls \{{.*?)(iifname|oifname)( "pt\*" counter) drop(.*?)(iifname|oifname)( "pt\*" counter) drop',
        r"\1\2\3\4\5\6",
        walls.RULES.read_text(),
        flags=re.DOTALL,
    )
    assert count == 1
    (tmp_path / "rules.nft").write_text(changed)
    found = outcome(tmp_path / "rules.nft")[what]
    assert [expected, 14] in found
    assert {last for _name, last in found} == {14}


def test_the_walls_can_be_loaded_again_and_taken_down() -> None:
    """In a namespace: twice the same rules, then none, then none again."""
    steps = (
        "from deploy.portalctl import walls; import subprocess; from pathlib import Path; "
        "shown = lambda: subprocess.run(['nft', 'list', 'tables'], capture_output=True, text=True).stdout.split('\\n'); "
        "none = Path('/nonexistent'); walls.ensure(); first = shown(); walls.ensure(); assert shown() == first; "
        "assert len([each for each in first if 'portal_walls' in each]) == len(walls.TABLES) == 3, first; "
        "walls.release(none); assert not any(shown()), shown(); walls.release(none)"
    )
    subprocess.run(["unshare", "--net", sys.executable, "-c", steps], cwd=CHECKOUT, check=True, timeout=60)


def test_walls_that_a_guest_still_needs_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(walls, "answers", asked.append)
    (tmp_path / "ptother-0000").mkdir()
    walls.release(tmp_path)
    assert asked == []
    (tmp_path / "ptother-0000").rmdir()
    walls.release(tmp_path)
    assert len(asked) == 3


def test_a_host_without_walls_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(walls, "answers", lambda line: False)
    walls.ensure()
    assert "hostile guest" in "".join(capsys.readouterr())
