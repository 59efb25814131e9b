"""What pages hold of npm: pinned by hash, fetched once, only the files that are served."""

import json
import re
from pathlib import Path

import pytest

from deploy.portalctl import assets
from deploy.portalctl.places import CHECKOUT, Places


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stands in for npm: each package with its files and one more that nobody serves."""
    calls: list[Path] = []

    def install(_places: Places, work: Path) -> None:
        calls.append(work)
        for package, names in assets.FILES.items():
            folder = work / "node_modules" / package
            folder.mkdir(parents=True)
            for name in (*names, "test.js"):
                (folder / name).write_text(f"{package}/{name}")

    monkeypatch.setattr(assets, "_install", install)
    return calls


def test_fetched_once_and_again_when_a_pin_changes(
    places: Places, fetched: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assets.ensure(places)
    assets.ensure(places)
    assert len(fetched) == 1
    monkeypatch.setattr(assets, "fingerprint", lambda: "other pins")
    assets.ensure(places)
    assert len(fetched) == 2


def test_only_what_is_served(places: Places, fetched: list[Path]) -> None:
    """With licences; readable by the web process's user; nothing is left of the rest."""
    assets.ensure(places)
    folder = places.checkout / assets.FOLDER
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        ".pins",
        *(f"vendor/tweetnacl/{name}" for name in assets.FILES["tweetnacl"]),
        *(f"vendor/noble-hashes/{name}" for name in assets.FILES["@noble/hashes"]),
    }
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.rglob("*.js"))
    assert list(places.run.iterdir()) == []


def test_every_package_is_pinned_by_its_hash() -> None:
    """The lock file names versions as package.json does, and a SHA-512 for each."""
    wanted = json.loads((assets.PINS / "package.json").read_text())["dependencies"]
    locked = json.loads((assets.PINS / "package-lock.json").read_text())["packages"]
    assert {name.removeprefix("node_modules/") for name in locked if name} == set(wanted) == set(assets.FILES)
    for name, version in wanted.items():
        entry = locked[f"node_modules/{name}"]
        assert entry["version"] == version
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", entry["integrity"])


def test_what_is_fetched_is_not_ours_to_keep() -> None:
    """git leaves it alone."""
    assert f"{assets.FOLDER}/" in (CHECKOUT / ".gitignore").read_text().splitlines()
