"""Small files after a stop at any instant: whole, old or new; and what was overwritten is overwritten."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from guest.agent.files import erase, erase_leftovers, write_atomically, write_erasing
from tests.guest.crashes import lay_out, recorded

OLD, NEW = b"old " * 100, b"new " * 90


@pytest.mark.parametrize("write", [write_atomically, write_erasing])
@pytest.mark.parametrize("old", [OLD, None], ids=["replaced", "new"])
def test_whole_or_absent(tmp_path: Path, write: Callable[[Path, bytes], None], old: bytes | None) -> None:
    """Whatever moment the machine stops at; once the call has returned, the new content stays."""
    folder = lay_out(tmp_path / "data", {} if old is None else {"file": (1, old)})
    recording = recorded(folder, lambda: write(folder / "file", NEW))
    found = [files.get("file", (0, None))[1] for files in recording.states()]
    assert set(found) == {old, NEW}
    assert {files["file"][1] for files in recording.states(since=len(recording.log))} == {NEW}
    assert ((folder / "file").read_bytes(), (folder / "file").stat().st_mode & 0o777) == (NEW, 0o600)


@pytest.mark.parametrize("old", [OLD, None], ids=["replaced", "new"])
def test_the_replaced_content_is_overwritten(tmp_path: Path, old: bytes | None) -> None:
    """Its blocks become free only as zeros, also when the rest was left to the next start."""
    folder = lay_out(tmp_path / "data", {} if old is None else {"file": (1, old)})
    recording = recorded(folder, lambda: write_erasing(folder / "file", NEW))
    assert recording.freed_in_clear() == 0
    assert [path.name for path in folder.iterdir()] == ["file"]
    for files in recording.states():
        left = recorded(lay_out(folder, files), lambda: erase_leftovers(folder / "file"))
        assert left.freed_in_clear() == 0
        assert {path.name for path in folder.iterdir()} <= {"file"}
        assert "file" not in files or (folder / "file").read_bytes() == files["file"][1]


def test_the_plain_write_frees_in_clear(tmp_path: Path) -> None:
    """The model can tell: the usual write leaves the old content in free blocks."""
    folder = lay_out(tmp_path / "data", {"file": (1, OLD)})
    assert recorded(folder, lambda: write_atomically(folder / "file", NEW)).freed_in_clear() == 1


def test_erase(tmp_path: Path) -> None:
    """Of any length; nothing if there is none; a link is not followed to what it names."""
    for size in (0, 1, 64 * 1024, 200_001):
        folder = lay_out(tmp_path / "data", {"file": (1, b"x" * size)})
        assert recorded(folder, partial(erase, folder / "file")).freed_in_clear() == 0
        assert list(folder.iterdir()) == []
    erase(tmp_path / "nothing")
    (tmp_path / "kept").write_bytes(OLD)
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    with pytest.raises(OSError):
        erase(tmp_path / "link")
    assert (tmp_path / "kept").read_bytes() == OLD
