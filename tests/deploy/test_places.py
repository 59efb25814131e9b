"""Where the state goes: beside the code if others can reach it there, below /var/lib if not."""

from pathlib import Path

import pytest

from deploy.portalctl import places as module
from deploy.portalctl.places import Places, checkout_id, locate, others_can_pass, others_can_read, prepare
from deploy.portalctl.terminal import Stop


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root that everybody may walk through; pytest's own temporary directory is closed to others."""
    monkeypatch.delenv("PORTAL_STATE_DIR", raising=False)
    monkeypatch.setattr(module, "SYSTEM_STATE", tmp_path / "lib")
    real = module.others_can_pass

    def from_here(path: Path) -> bool:
        steps = [step for step in (path.resolve(), *path.resolve().parents) if step.is_relative_to(tmp_path)]
        return all(step.stat().st_mode & 0o001 for step in steps if step != tmp_path)

    assert real(Path("/")) is True
    monkeypatch.setattr(module, "others_can_pass", from_here)
    return tmp_path


def test_state_is_var_in_an_open_checkout(root: Path) -> None:
    checkout = root / "open"
    checkout.mkdir(mode=0o755)
    places = locate(checkout=checkout, system_state=root / "lib")
    assert places.state == checkout / "var"
    prepare(places)
    assert places.run.is_dir()
    assert not (checkout / "var").is_symlink()


def test_state_of_a_closed_checkout_is_below_var_lib_and_var_links_to_it(root: Path) -> None:
    checkout = root / "closed"
    checkout.mkdir(mode=0o700)
    places = locate(checkout=checkout, system_state=root / "lib")
    assert places.state == root / "lib" / checkout_id(checkout)
    prepare(places)
    assert (checkout / "var").resolve() == places.state
    assert locate(checkout=checkout, system_state=root / "lib") == places, "a second run finds it"


def test_a_state_directory_that_qemu_cannot_reach_is_refused(root: Path) -> None:
    (root / "home").mkdir(mode=0o700)
    with pytest.raises(Stop, match="cannot walk"):
        prepare(Places(root, root / "home" / "state"))


def test_the_operator_may_choose_the_state_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_STATE_DIR", str(root / "chosen"))
    assert locate(checkout=root).state == root / "chosen"


def test_one_closed_directory_on_the_way_closes_the_path(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a").chmod(0o700)
    assert not others_can_pass(inner)
    assert not others_can_read(inner)


def test_checkouts_are_told_apart() -> None:
    assert checkout_id(Path("/a")) != checkout_id(Path("/b"))
    assert len(checkout_id(Path("/a"))) == 8
