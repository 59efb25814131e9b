"""The egress keeper's folders, and when there is no keeper."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.portalctl import egress, libvirtd
from deploy.portalctl.places import CHECKOUT, Places
from deploy.portalctl.users import ALONE, Split
from tests.deploy.conftest import needs_root

SPLIT = Split("nobody", "nobody", "nobody", "nobody")


def test_without_a_user_of_its_own_there_is_no_keeper(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    """As root its packet filter would shut out the whole machine."""
    assert egress.ensure(places, ALONE) is False
    assert "no way out" in capsys.readouterr().out
    assert not places.egress.exists()


def test_without_a_packet_filter_there_is_no_keeper(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(egress, "answers", lambda argv: False)
    assert egress.ensure(places, SPLIT) is False
    assert "packet filter" in capsys.readouterr().out


@needs_root
def test_the_folders_are_the_keepers_alone(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "answers", lambda argv: True)
    for _ in range(2):
        assert egress.ensure(places, SPLIT) is True
    folders = (places.egress, places.run / "egress")
    found = [(path.owner(), path.group(), path.stat().st_mode & 0o7777) for path in folders]
    assert found == [("root", "nogroup", 0o1770), ("nobody", "nogroup", 0o750)]


@needs_root
@pytest.mark.parametrize(
    ("ensured", "simulated", "runs"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_it_runs_where_machines_run(places: Places, ensured: bool, simulated: bool, runs: bool) -> None:
    places.egress.mkdir()
    assert egress.hand_over(places, SPLIT, ensured, simulated=simulated) is runs
    assert places.egress.owner() == ("nobody" if ensured and simulated else "root")


def test_what_a_killed_keeper_left_is_taken_away(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(egress, "answers", lambda argv: asked.append(argv))
    egress.release(places)
    assert asked == []
    (places.state / "fleet-id").write_text("abcde\n")
    egress.release(places)
    assert [argv[-2:] for argv in asked] == [["inet", "egress_abcde"], ["bridge", "egress_abcde"]]


def test_the_folder_of_the_unit_is_not_the_keepers() -> None:
    """Whoever owns a folder's parent can put another in its place."""
    unit = (CHECKOUT / "deploy/systemd/portal-egress.service").read_text()
    shared = re.search(r"PORTAL_EGRESS_DIR=(\S+?)[,.]", unit)
    own = re.search(r"^StateDirectory=(\S+)$", unit, re.MULTILINE)
    assert shared is not None
    assert own is not None
    assert Path(f"/var/lib/{own[1]}") not in (Path(shared[1]), *Path(shared[1]).parents)
    assert f"ReadWritePaths={shared[1]}" in unit


def test_a_worker_without_a_user_takes_no_other_role_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by libvirt, it runs as the invoking user; the egress keeper goes on as its own."""
    monkeypatch.setattr(libvirtd, "answers", lambda _argv: False)
    assert libvirtd.check_split("qemu:///system", SPLIT) == replace(SPLIT, worker=None)
