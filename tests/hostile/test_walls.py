"""The host's own rules, against frames that libvirt's filters never see: real kernel, no guest needed."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.portalctl import users, walls
from deploy.portalctl.places import Places, checkout_id
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
        "from deploy.portalctl import walls, users; import subprocess; from pathlib import Path; "
        "users.others = lambda places: False; "
        "shown = lambda: subprocess.run(['nft', 'list', 'tables'], capture_output=True, text=True).stdout.split('\\n'); "
        "none = Path('/nonexistent'); walls.ensure(); first = shown(); walls.ensure(); assert shown() == first; "
        "assert len([each for each in first if 'portal_walls' in each]) == len(walls.TABLES) == 3, first; "
        "gone = lambda: walls.release(None, none, none); gone(); assert not any(shown()), shown(); gone()"
    )
    subprocess.run(["unshare", "--net", sys.executable, "-c", steps], cwd=CHECKOUT, check=True, timeout=60)


def test_walls_that_somebody_still_needs_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest, another installation whose guests are off, and a host whose unit loads them."""
    asked: list[Any] = []
    monkeypatch.setattr(walls, "answers", asked.append)
    monkeypatch.setattr(users, "_claims", lambda: tmp_path / "claims")
    places = Places(tmp_path / "checkout", tmp_path / "state")
    unit = tmp_path / "portal-walls.service"
    (tmp_path / "claims").mkdir()
    for needs in (tmp_path / "ptother-0000", tmp_path / "claims" / "another", unit):
        needs.touch()
        walls.release(places, tmp_path, unit)
        assert asked == [], needs
        needs.unlink()
    (tmp_path / "claims" / checkout_id(places.checkout)).touch()
    walls.release(places, tmp_path, unit)
    assert len(asked) == 3


def test_a_host_without_walls_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(walls, "answers", lambda line: False)
    walls.ensure()
    assert "hostile guest" in "".join(capsys.readouterr())
