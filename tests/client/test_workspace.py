"""Files up and down, proved like every other request."""

from pathlib import Path

from tests.client.conftest import Person
from tests.client.fake import Fake


def test_up_and_down(fake: Fake, owner: Person, tmp_path: Path) -> None:
    body = bytes(range(256)) * 4000
    (tmp_path / "a").write_bytes(body)
    assert "Uploaded 1024000 bytes" in owner.ok("workspace", "put", "acme", str(tmp_path / "a"), "x/ä")
    assert fake.stored["x/ä"] == body
    owner.ok("workspace", "get", "acme", "x/ä", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == body
    assert "exists already" in owner.refused("workspace", "get", "acme", "x/ä", str(tmp_path / "b"))
    (tmp_path / "b").write_bytes(body[:1000])
    owner.ok("workspace", "get", "acme", "x/ä", str(tmp_path / "b"), "--resume")
    assert (tmp_path / "b").read_bytes() == body
    owner.refused("workspace", "rm", "acme", "x/ä", typed="n\n")
    assert owner.ok("workspace", "rm", "acme", "x/ä", "--yes") == "Deleted 1.\n"
    assert fake.stored == {}
    owner.ok("workspace", "mkdir", "acme", "new")


def test_an_archive_that_broke_off(fake: Fake, owner: Person, tmp_path: Path) -> None:
    assert owner.ok("workspace", "archive", "acme", str(tmp_path / "a.tar")) == "Downloaded 1536 bytes.\n"
    fake.tar = b"x" * 512
    assert "not whole" in owner.refused("workspace", "archive", "acme", str(tmp_path / "b.tar"))
