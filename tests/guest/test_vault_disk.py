"""What the vault leaves on the disk: few private files, whose damage or loss keeps the agent from starting."""

from base64 import b64decode
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.keys import KeyFileError
from guest.agent.vault import Vault
from guest.agent.vault_record import Record, Secret, VaultFileError
from tests.guest.boxes import NAME, boxed, opened, put
from tests.guest.test_vault import ONE_FOLDER, ids, rotate


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return opened(tmp_path)


def test_only_its_own_files(vault: Vault, tmp_path: Path) -> None:
    """Private, few, and none unfinished."""
    put(vault, boxed(vault.sealing_public))
    rotate(vault)
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    current, previous = ids(vault)
    assert found == dict.fromkeys(
        ["tls.key", "vault.json", f"sealing-{current}.key", f"sealing-{previous}.key"], 0o600
    )


def test_a_guest_from_before_the_vault(tmp_path: Path) -> None:
    """Its sealing key, which the portal has on record, stays the same."""
    key = bytes(range(32))
    (tmp_path / "sealing.key").write_bytes(key)
    vault = opened(tmp_path)
    assert (tmp_path / f"sealing-{ids(vault)[0]}.key").read_bytes() == key
    assert not (tmp_path / "sealing.key").exists()
    assert opened(tmp_path).sealing_public == vault.sealing_public


@ONE_FOLDER
@given(at=st.integers(0, 2**16), change=st.integers(1, 255), cut=st.booleans())
def test_any_damage_is_noticed(vault: Vault, tmp_path: Path, at: int, change: int, cut: bool) -> None:
    """One byte of the record changed, or its end lost: refused; nothing on the disk is touched."""
    if not vault.statement()["secrets"]:
        put(vault, boxed(vault.sealing_public))
    path = tmp_path / "vault.json"
    whole = path.read_bytes()
    at %= len(whole)
    damaged = whole[:at] if cut else whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :]
    path.write_bytes(damaged)
    try:
        with pytest.raises(VaultFileError, match=r"vault\.json is damaged"):
            opened(tmp_path)
        assert path.read_bytes() == damaged
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"version":2,"current":"%s","previous":null,"secrets":{}}' % (b"ab" * 8),
        b'{"version":1,"current":"../tls","previous":null,"secrets":{}}',
        b'{"version":1,"current":null,"previous":null,"secrets":{}}',
        b'{"version":1,"current":"%s","previous":"x","secrets":{}}' % (b"ab" * 8),
        b'{"version":1,"current":"%s","previous":null,"secrets":{"../A":{}}}' % (b"ab" * 8),
        b'{"version":1,"current":"%s","previous":null,"secrets":{"A":7}}' % (b"ab" * 8),
        b'{"version":1,"current":"%s","previous":null,"secrets":{"A":{"version":1,"sealed":"%%","before":""}}}'
        % (b"ab" * 8),
    ],
)
def test_no_record(document: bytes) -> None:
    """Well-digested nonsense is refused by the same clear error."""
    with pytest.raises(VaultFileError, match=r"vault\.json is"):
        Record.from_bytes(sha256(document).hexdigest().encode() + b"\n" + document)


def test_a_lost_file_is_noticed(vault: Vault, tmp_path: Path) -> None:
    """Record or key gone: the agent stops rather than begin anew, and removes nothing of the rest."""
    put(vault, boxed(vault.sealing_public))
    rotate(vault)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in whole.keys() - {"tls.key"}:
        (tmp_path / name).unlink()
        with pytest.raises((VaultFileError, KeyFileError), match="is missing"):
            opened(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == whole.keys() - {name}
        (tmp_path / name).write_bytes(whole[name])
    opened(tmp_path)


def test_a_damaged_key_is_noticed(vault: Vault, tmp_path: Path) -> None:
    """Of another length, or another key under this name: the agent stops and touches nothing."""
    put(vault, boxed(vault.sealing_public))
    path = tmp_path / f"sealing-{ids(vault)[0]}.key"
    for damaged in (b"short", bytes(32), b""):
        path.write_bytes(damaged)
        with pytest.raises(KeyFileError, match=rf"{path.name} is damaged"):
            opened(tmp_path)
        assert path.read_bytes() == damaged


def test_a_record_that_its_key_does_not_open(vault: Vault, tmp_path: Path) -> None:
    """A box of another key in the record, as a mixed-up restore would leave it: the agent stops."""
    put(vault, boxed(vault.sealing_public))
    record = Record.from_bytes((tmp_path / "vault.json").read_bytes())
    swapped = b64decode(boxed(opened(tmp_path / "other").sealing_public)["sealed"])
    (tmp_path / "vault.json").write_bytes(record.holding(NAME, Secret(1, swapped)).to_bytes())
    with pytest.raises(VaultFileError, match="does not open"):
        opened(tmp_path)
