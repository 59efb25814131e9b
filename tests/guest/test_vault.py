"""The vault: versions only rise, keys change, and no answer depends on a value."""

from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guest.agent.keys import KeyFileError
from guest.agent.vault import Vault
from guest.agent.vault_record import MAX_NAMES, MAX_VERSION, Record, VaultFileError
from protocol.sealed import MAX_SECRET_BYTES, key_id, seal
from tests.guest.boxes import CANARY, NAME, boxed, found_in, opened, put, refusal

ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return opened(tmp_path)


def ids(vault: Vault) -> tuple[str, str | None]:
    said = vault.statement()["sealing"]
    return said["current"]["id"], said["previous"] and said["previous"]["id"]


def rotate(vault: Vault) -> None:
    vault.rotate(ids(vault)[0])


# Delivery


def test_a_secret_arrives(vault: Vault, tmp_path: Path) -> None:
    """It opens, also after a restart; the answer and the statement hold no value, the disk only the box."""
    body = boxed(vault.sealing_public)
    assert put(vault, body) == {"name": NAME, "version": 1, "state": "held"}
    for each in (vault, opened(tmp_path)):
        assert each.open_secret(NAME) == CANARY
        assert each.statement() == {
            "sealing": {
                "current": {"id": key_id(vault.sealing_public), "public_key": vault.sealing_public.hex()},
                "previous": None,
            },
            "secrets": [{"name": NAME, "version": 1, "state": "held", "key_id": ids(vault)[0]}],
        }
    assert found_in(tmp_path, CANARY) == []
    assert body["sealed"].encode() in (tmp_path / "vault.json").read_bytes()


def test_the_same_again(vault: Vault, tmp_path: Path) -> None:
    """A delivery whose answer was lost may come again; nothing is written and nobody is told."""
    body, told = boxed(vault.sealing_public), list[str]()
    vault.changed = told.append
    first = put(vault, body)
    before = (tmp_path / "vault.json").stat().st_mtime_ns
    assert put(vault, body) == first
    assert (told, (tmp_path / "vault.json").stat().st_mtime_ns) == ([NAME], before)


def test_versions_only_rise(vault: Vault) -> None:
    """An older version, or another box under the same one, is refused whatever it holds."""
    old, new = boxed(vault.sealing_public, version=4), boxed(vault.sealing_public, b"new", version=5)
    put(vault, old)
    put(vault, new)
    for replayed in (
        old,
        boxed(vault.sealing_public, version=5),
        boxed(vault.sealing_public, b"new", version=5),
    ):
        assert refusal(put, vault, replayed) == "rolled_back"
    assert vault.open_secret(NAME) == b"new"


def test_no_guess_is_confirmed(tmp_path: Path) -> None:
    """A right guess of a value, sealed by the portal itself, is answered, and told on, as a wrong one is."""

    def answers(guess: bytes, folder: Path) -> list[Any]:
        vault = opened(folder)
        said: list[Any] = []
        vault.changed = said.append
        put(vault, boxed(vault.sealing_public))
        for name, version in ((NAME, 1), ("OTHER", 1), (NAME, 2)):
            said.append(refusal(put, vault, boxed(vault.sealing_public, guess, name, version)))
        rotate(vault)
        said.append(refusal(put, vault, boxed(vault.sealing_public, guess, version=2)))
        return [*said, vault.statement()["secrets"][0]["version"]]

    right, wrong = answers(CANARY, tmp_path / "right"), answers(b"wrong", tmp_path / "wrong")
    assert right == wrong == [NAME, "rolled_back", "OTHER", "done", NAME, "done", "rolled_back", 2]


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "github"},
        {"name": "A\n"},
        {"name": None},
        {"name": ["A"]},
        {"version": 0},
        {"version": -1},
        {"version": True},
        {"version": "1"},
        {"version": 1.0},
        {"version": None},
        {"version": MAX_VERSION + 1},
        {"key_id": "AB" * 8},
        {"key_id": "ab"},
        {"key_id": 7},
        {"sealed": ""},
        {"sealed": None},
        {"sealed": "%%%%"},
        {"sealed": b64encode(b"x" * 47).decode()},
        {"sealed": b64encode(b"x" * (MAX_SECRET_BYTES + 49)).decode()},
        {"sealed": "eA==" * 20},
        {"sealed": b64encode(b"\xff" * 60).decode().replace("/", "_")},
        {"sealed": b64encode(b"x" * 48).decode() + "\n"},
        {"sealed": b64encode(b"x" * 49).decode()[:-3] + "B=="},
        {"sealed": "\u00e4" * 64},
    ],
)
def test_malformed(vault: Vault, changed: dict[str, Any]) -> None:
    """Refused, and nothing is kept."""
    assert refusal(put, vault, boxed(vault.sealing_public) | changed) == "malformed"
    assert vault.statement()["secrets"] == []


def test_what_does_not_open(vault: Vault) -> None:
    """Sealed to another key than it says, or damaged: refused on arrival, not when the gateway starts."""
    other = Path(vault._path.parent / "other")
    theirs = boxed(opened(other).sealing_public)
    assert refusal(put, vault, theirs) == "unknown_key"
    assert refusal(put, vault, theirs | {"key_id": ids(vault)[0]}) == "cannot_open"
    box = bytearray(seal(vault.sealing_public, CANARY))
    box[-1] ^= 1
    damaged = boxed(vault.sealing_public) | {"sealed": b64encode(box).decode()}
    assert refusal(put, vault, damaged) == "cannot_open"
    assert vault.statement()["secrets"] == []


def test_the_longest_and_the_shortest(vault: Vault) -> None:
    """32 KiB of any bytes, and none at all."""
    for version, value in enumerate((b"", bytes(range(256)) * 128), start=1):
        put(vault, boxed(vault.sealing_public, value, version=version))
        assert vault.open_secret(NAME) == value


def test_sixty_four_names(vault: Vault) -> None:
    """One more is refused, delivered or revoked; known ones still change; a withdrawn one keeps its place."""
    for number in range(MAX_NAMES):
        put(vault, boxed(vault.sealing_public, name=f"N{number}"))
    assert refusal(put, vault, boxed(vault.sealing_public, name="MORE")) == "too_many"
    assert refusal(vault.revoke, "MORE", 1) == "too_many"
    vault.revoke("N0", 1)
    assert refusal(put, vault, boxed(vault.sealing_public, name="MORE")) == "too_many"
    put(vault, boxed(vault.sealing_public, name="N0", version=2))
    rotate(vault)
    assert len(vault.statement()["secrets"]) == MAX_NAMES


# Revocation


def test_revocation(vault: Vault, tmp_path: Path) -> None:
    """The box leaves the disk, the version stays: neither it nor an older one comes back, a newer one may."""
    body, told = boxed(vault.sealing_public, version=3), list[str]()
    put(vault, body)
    vault.changed = told.append
    answer = {"name": NAME, "version": 3, "state": "revoked"}
    assert [vault.revoke(NAME, 3), vault.revoke(NAME, 3)] == [answer, answer]
    assert told == [NAME]
    assert body["sealed"].encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for each in (vault, opened(tmp_path)):
        with pytest.raises(KeyError):
            each.open_secret(NAME)
        assert each.statement()["secrets"] == [{**answer, "key_id": None}]
        assert refusal(put, each, body) == "rolled_back"
        assert refusal(each.export, NAME) == "no_such_secret"
        assert refusal(each.revoke, NAME, 2) == "rolled_back"
    put(vault, boxed(vault.sealing_public, b"next", version=4))
    assert vault.open_secret(NAME) == b"next"
    assert refusal(vault.revoke, NAME, 3) == "rolled_back"
    assert vault.revoke(NAME, 9)["version"] == 9


def test_revoked_before_it_came(vault: Vault) -> None:
    """A delivery that was overtaken by its revocation finds the door shut; nobody need be told."""
    told: list[str] = []
    vault.changed = told.append
    vault.revoke(NAME, 1)
    assert refusal(put, vault, boxed(vault.sealing_public)) == "rolled_back"
    assert vault.revoke(NAME, 2)["version"] == 2
    assert told == []


def test_nothing_of_that_name(vault: Vault) -> None:
    with pytest.raises(KeyError):
        vault.open_secret(NAME)
    assert refusal(vault.export, NAME) == "no_such_secret"
    for wrong in (None, "a", 7):
        assert refusal(vault.export, wrong) == "malformed"
        assert refusal(vault.revoke, wrong, 1) == "malformed"
    assert refusal(vault.revoke, NAME, 0) == "malformed"


# Sealing keys


def test_rotation(vault: Vault, tmp_path: Path) -> None:
    """All that is held is sealed to the new key, values stay, versions too, and the gateway goes on."""
    body = boxed(vault.sealing_public)
    put(vault, body)
    vault.revoke("GONE", 7)
    told: list[str] = []
    vault.changed = told.append
    old, old_public = ids(vault)[0], vault.sealing_public
    answer = vault.rotate(old)
    assert answer == vault.statement()
    assert ids(vault) == (key_id(vault.sealing_public), old)
    assert vault.sealing_public != old_public
    for each in (vault, opened(tmp_path)):
        assert each.open_secret(NAME) == CANARY
        assert each.statement() == answer
        assert each.rotate(old) == answer, "the same again"
    assert [(one["version"], one["key_id"]) for one in answer["secrets"]] == [(1, ids(vault)[0]), (7, None)]
    assert told == []
    assert body["sealed"].encode() not in (tmp_path / "vault.json").read_bytes()


def test_one_rotation_at_a_time(vault: Vault) -> None:
    """At most two keys: the next rotation waits for the previous key's end."""
    first = ids(vault)[0]
    rotate(vault)
    second = ids(vault)[0]
    assert refusal(vault.rotate, second) == "rotation_unfinished"
    assert refusal(vault.rotate, "00" * 8) == "not_current"
    assert refusal(vault.retire, second) == "in_use"
    vault.retire(first)
    assert refusal(vault.rotate, first) == "not_current"
    rotate(vault)
    assert ids(vault)[1] == second
    for wrong in (None, "x", 7, "AB" * 8):
        assert refusal(vault.rotate, wrong) == "malformed"
        assert refusal(vault.retire, wrong) == "malformed"


def test_a_delivery_meets_a_rotation(vault: Vault) -> None:
    """Sealed to the key that was just replaced: taken, and sealed anew, so that retiring loses nothing."""
    body, late = boxed(vault.sealing_public), boxed(vault.sealing_public, b"late", "LATE")
    put(vault, body)
    rotate(vault)
    assert put(vault, late)["state"] == "held"
    assert put(vault, late)["state"] == put(vault, body)["state"] == "held", "the same again"
    assert refusal(put, vault, body | {"key_id": ids(vault)[0]}) == "rolled_back", "not the same"
    vault.retire(late["key_id"])
    assert (vault.open_secret(NAME), vault.open_secret("LATE")) == (CANARY, b"late")
    newer = boxed(vault.sealing_public, version=2) | {"key_id": late["key_id"]}
    assert refusal(put, vault, newer) == "unknown_key"


def test_a_retired_key_is_gone(vault: Vault, tmp_path: Path) -> None:
    """Its private half is in no file, and what was sealed to it opens nowhere; asking again is no error."""
    old = ids(vault)[0]
    private = (tmp_path / f"sealing-{old}.key").read_bytes()
    rotate(vault)
    assert private in [path.read_bytes() for path in tmp_path.iterdir()]
    assert vault.retire(old) == vault.retire(old) == vault.statement()
    assert ids(vault)[1] is None
    assert found_in(tmp_path, private) == []
    assert ids(opened(tmp_path)) == ids(vault)


def test_export(vault: Vault) -> None:
    """What the portal may keep in place of its own copy; delivered again, it is the same."""
    put(vault, boxed(vault.sealing_public))
    rotate(vault)
    told = vault.export(NAME)
    assert (told["name"], told["version"], told["key_id"]) == (NAME, 1, ids(vault)[0])
    assert put(vault, told)["state"] == "held"
    rotate_twice = ids(vault)[1]
    vault.retire(rotate_twice)
    rotate(vault)
    assert put(vault, told)["state"] == "held", "sealed to the previous key by now"
    assert vault.open_secret(NAME) == CANARY


# What is on the disk


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
    secrets = {NAME: type(record.secrets[NAME])(1, swapped)}
    (tmp_path / "vault.json").write_bytes(Record(record.current, None, secrets).to_bytes())
    with pytest.raises(VaultFileError, match="does not open"):
        opened(tmp_path)
