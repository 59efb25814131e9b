"""Which document of the folder counts, and how the state is written."""

import os
from pathlib import Path

import pytest

from provisioning.egress import folder
from provisioning.egress.rules import MAX_BYTES, Rules, file_name


def put(place: Path, generation: int, data: bytes | None = None) -> bytes:
    whole = Rules(generation, "fleet", ()).to_bytes() if data is None else data
    (place / file_name(generation)).write_bytes(whole)
    return whole


def test_the_highest_whole_document_over_the_last_counts(tmp_path: Path) -> None:
    assert folder.newest(tmp_path, 0) is None
    put(tmp_path, 3)
    four = put(tmp_path, 4)
    put(tmp_path, 5, four[:-1])
    (tmp_path / "rules-0000000009.json.part").write_bytes(four)
    assert folder.newest(tmp_path, 0) == (4, four)
    assert folder.newest(tmp_path, 4) is None
    assert folder.newest(tmp_path, 9) is None


def test_what_is_too_large_is_handed_on_to_be_refused(tmp_path: Path) -> None:
    put(tmp_path, 1, b"x" * (MAX_BYTES + 100))
    found = folder.newest(tmp_path, 0)
    assert found is not None
    assert len(found[1]) == MAX_BYTES + 1


def test_a_link_or_a_pipe_is_no_document(tmp_path: Path) -> None:
    """The keeper never waits for one, nor reads what it may read and the worker may not."""
    put(tmp_path, 1)
    (tmp_path / file_name(2)).symlink_to(tmp_path / file_name(1))
    os.mkfifo(tmp_path / file_name(3))
    (tmp_path / file_name(4)).mkdir()
    found = folder.newest(tmp_path, 0)
    assert found is not None
    assert found[0] == 1


def test_a_state_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_state(tmp_path, {"generation": 1})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        folder.write_state(tmp_path, {"generation": 2})
    assert folder.read_state(tmp_path) == {"generation": 1}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_state_that_cannot_be_read_is_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / folder.STATE).write_bytes(content)
    assert folder.read_state(tmp_path) == {}


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"\xff", b'{"a":' * 100_000], ids=lambda each: repr(each[:4])
)
def test_a_state_that_cannot_be_read_is_an_empty_one(tmp_path: Path, data: bytes) -> None:
    (tmp_path / folder.STATE).write_bytes(data)
    assert folder.read_state(tmp_path) == {}
