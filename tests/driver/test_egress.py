"""The egress keeper's folder through libvirt: what every driver promises, on a real host's pool too."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from provisioning.driver import Conflict, DriverError, LibvirtDriver, Unsupported, egress
from provisioning.driver.types import HostSpec
from provisioning.egress.rules import parse
from tests.driver.support import no_rules, open_driver


@pytest.fixture
def folder(driver: LibvirtDriver) -> Path:
    """The keeper's own, as the installation makes it."""
    return Path(driver.host.egress_path)


@pytest.fixture
def records(folder: Path) -> Path:
    path = folder / "records-0000000003.log"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


def test_a_document_arrives_as_it_was_sent(driver: LibvirtDriver, folder: Path) -> None:
    """Whole, readable for the keeper's user, and only once."""
    body = no_rules(driver.host.fleet, 7)
    assert driver.egress_put(7, body) is True
    assert driver.egress_put(7, body) is False
    path = folder / "rules-0000000007.json"
    assert path.read_bytes() == body
    assert parse(path.read_bytes()).generation == 7


@pytest.mark.parametrize("there", [b"", b"\0" * 200, b"half of it"])
def test_half_an_upload_is_replaced(driver: LibvirtDriver, folder: Path, there: bytes) -> None:
    """A worker died between creating and filling: shorter, of another size, or empty."""
    driver.egress_put(1, no_rules(driver.host.fleet))
    (folder / "rules-0000000002.json").write_bytes(there)
    assert driver.egress_put(2, no_rules(driver.host.fleet, 2)) is True
    assert (folder / "rules-0000000002.json").read_bytes() == no_rules(driver.host.fleet, 2)


def test_a_document_of_the_same_size_with_other_bytes_is_replaced(
    driver: LibvirtDriver, folder: Path
) -> None:
    body = no_rules(driver.host.fleet, 2)
    driver.egress_put(2, body)
    (folder / "rules-0000000002.json").write_bytes(b"\0" * len(body))
    assert driver.egress_put(2, body) is True
    assert (folder / "rules-0000000002.json").read_bytes() == body


@pytest.mark.parametrize("same_size", [True, False])
def test_a_link_in_a_documents_place_is_never_written_through(
    driver: LibvirtDriver, folder: Path, tmp_path: Path, same_size: bool
) -> None:
    """Whoever has taken over the proxy puts it there; libvirt writes as root."""
    driver.egress_put(1, no_rules(driver.host.fleet))
    body = no_rules(driver.host.fleet, 2)
    target = tmp_path / "another file"
    target.write_bytes(b"x" * (len(body) if same_size else 9))
    before = target.read_bytes()
    (folder / "rules-0000000002.json").symlink_to(target)
    assert driver.egress_put(2, body) is True
    assert target.read_bytes() == before
    assert (folder / "rules-0000000002.json").read_bytes() == body
    assert not (folder / "rules-0000000002.json").is_symlink()


def test_only_the_newest_document_stays(driver: LibvirtDriver, folder: Path) -> None:
    """The keeper cannot remove root's files; a later number of somebody else is not touched."""
    for generation in (1, 2, 4, 3):
        driver.egress_put(generation, no_rules(driver.host.fleet, generation))
    assert sorted(path.name for path in folder.glob("rules-*")) == [
        "rules-0000000003.json",
        "rules-0000000004.json",
    ]


def test_a_document_may_be_removed_by_hand(driver: LibvirtDriver, folder: Path) -> None:
    """Behind libvirt's back, whose list of files is then old."""
    driver.egress_put(1, no_rules(driver.host.fleet))
    (folder / "rules-0000000001.json").unlink()
    assert driver.egress_put(1, no_rules(driver.host.fleet)) is True
    assert driver.egress_put(2, no_rules(driver.host.fleet, 2)) is True


def test_the_state_is_read_as_it_is_now(driver: LibvirtDriver, folder: Path) -> None:
    """Absent, there, and after the keeper has renamed a new one into its place."""
    (folder / "state.json").unlink(missing_ok=True)
    assert driver.egress_state() is None
    driver.egress_put(1, no_rules(driver.host.fleet))
    for number in (1, 22, 333):
        fresh = folder / "state.new"
        fresh.write_text(json.dumps({"number": number}))
        fresh.replace(folder / "state.json")
        assert json.loads(driver.egress_state() or b"") == {"number": number}


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (250, 10), (0, 1 << 20), ((1 << 20) - 3, 100)])
def test_records_are_read_in_parts(driver: LibvirtDriver, records: Path, offset: int, length: int) -> None:
    """From where we were, as many bytes as asked for, fewer at the end."""
    driver.egress_put(1, no_rules(driver.host.fleet))
    assert driver.egress_read(records.name, offset, length) == records.read_bytes()[offset : offset + length]


def test_nothing_is_at_the_end_and_beyond(driver: LibvirtDriver, records: Path) -> None:
    driver.egress_put(1, no_rules(driver.host.fleet))
    assert driver.egress_read(records.name, 1 << 20, 100) == b""
    assert driver.egress_read(records.name, 1 << 30, 100) == b""


def test_a_file_that_grows_and_goes(driver: LibvirtDriver, records: Path) -> None:
    """What was added is read; what was removed is not there, also when libvirt still lists it."""
    driver.egress_put(1, no_rules(driver.host.fleet))
    driver.egress_read(records.name, 0, 1)
    with records.open("ab") as file:
        file.write(b"more")
    assert driver.egress_read(records.name, 1 << 20, 100) == b"more"
    records.unlink()
    assert driver.egress_read(records.name, 0, 10) is None


def test_before_the_first_document_there_is_nothing_to_read(driver: LibvirtDriver) -> None:
    """No pool yet: no state and no records, and no error."""
    assert driver.egress_read("records-0000000001.log", 0, 10) is None
    assert driver.egress_path() == ""
    assert driver.egress_remove() is False


@pytest.mark.parametrize(
    ("name", "offset", "length"),
    [
        ("../pool/rt-1.qcow2", 0, 1),
        ("rules-0000000001.json", 0, 1),
        ("records-1.log", 0, 1),
        ("records-0000000001.log\n", 0, 1),
        ("records-0000000001.log", -1, 1),
        ("records-0000000001.log", 0, 0),
        ("records-0000000001.log", 0, egress.READ_LIMIT + 1),
    ],
)
def test_only_parts_of_records_are_read(driver: LibvirtDriver, name: str, offset: int, length: int) -> None:
    """No other name, no length that libvirt takes for «all»."""
    with pytest.raises(ValueError, match=r"records|bytes from"):
        driver.egress_read(name, offset, length)


@pytest.mark.parametrize("generation", [0, -1, 10_000_000_000])
def test_a_generation_has_ten_digits_at_most(driver: LibvirtDriver, generation: int) -> None:
    with pytest.raises(ValueError, match="a generation is 1 to"):
        driver.egress_put(generation, b"x")


def test_removal_takes_our_documents_and_leaves_the_keepers_files(
    driver: LibvirtDriver, folder: Path, records: Path
) -> None:
    driver.egress_put(1, no_rules(driver.host.fleet))
    driver.egress_put(2, no_rules(driver.host.fleet, 2))
    assert driver.egress_path() == str(folder)
    assert driver.egress_remove() is True
    assert driver.egress_remove() is False
    assert driver.egress_path() == ""
    assert list(folder.glob("rules-*")) == []
    assert records.is_file()


def test_a_host_without_a_keeper_says_what_to_do(driver: LibvirtDriver) -> None:
    with (
        open_driver(replace(driver.host, egress_path="")) as without,
        pytest.raises(Unsupported, match="host_register"),
    ):
        without.egress_put(1, no_rules(driver.host.fleet))


def test_a_pool_elsewhere_is_a_conflict(driver: LibvirtDriver, folder: Path) -> None:
    driver.egress_put(1, no_rules(driver.host.fleet))
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    with (
        open_driver(replace(driver.host, egress_path=str(elsewhere))) as other,
        pytest.raises(Conflict, match="Correct the host's entry"),
    ):
        other.egress_put(1, no_rules(driver.host.fleet))


@pytest.mark.guest
def test_the_folder_is_never_made_from_here(real: LibvirtDriver, place: Path) -> None:
    """It is the keeper's, with an owner and a mode of its own: an error, and no folder of root's."""
    with open_driver(replace(real.host, egress_path=str(place / "none"))) as homeless:
        with pytest.raises(DriverError, match="none"):
            homeless.egress_put(1, no_rules(real.host.fleet))
        assert not (place / "none").exists()
        homeless.egress_remove()


@pytest.mark.guest
def test_the_keepers_folder_keeps_its_owner_and_mode(real: LibvirtDriver) -> None:
    """libvirt changes neither when it opens the pool, and the document can be read by others."""
    host: HostSpec = real.host
    folder = Path(host.egress_path)
    folder.chmod(0o750)
    real.egress_put(1, no_rules(host.fleet))
    assert folder.stat().st_mode & 0o7777 == 0o750
    assert (folder / "rules-0000000001.json").stat().st_mode & 0o777 == 0o644
