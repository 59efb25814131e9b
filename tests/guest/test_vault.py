"""The vault: versions only rise, keys change, and no answer depends on a value."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guest.agent.vault import Vault
from guest.agent.vault_record import MAX_NAMES, MAX_TAKEN, Record
from guest.agent.vault_requests import MAX_VERSION
from protocol.sealed import MAX_SECRET_BYTES, key_id, seal
from protocol.sealed import NAME as NAME_RULE
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


def test_a_box_is_good_once(vault: Vault, tmp_path: Path) -> None:
    """Not under another name, not as a later version once replaced or revoked, not as its own export, by no restart."""
    first, second = boxed(vault.sealing_public), boxed(vault.sealing_public, b"second", version=2)
    put(vault, first)
    put(vault, second)
    other = boxed(vault.sealing_public, b"other", "OTHER")
    put(vault, other)
    vault.revoke("OTHER", 1)
    rotate(vault)
    exported = vault.export(NAME)
    for each in (vault, opened(tmp_path)):
        for body in (first, second, exported):
            assert refusal(put, each, body | {"name": "ELSEWHERE", "version": 1}) == "rolled_back"
        assert refusal(put, each, first | {"version": 3}) == "rolled_back"
        assert refusal(put, each, other | {"version": 2}) == "rolled_back"
        assert each.open_secret(NAME) == b"second"
    vault.retire(first["key_id"])
    assert refusal(put, vault, first | {"version": 3}) == "unknown_key"
    assert refusal(put, vault, first | {"version": 3, "key_id": exported["key_id"]}) == "cannot_open"


def test_the_same_box_as_a_later_version(vault: Vault, tmp_path: Path) -> None:
    """Who sends what is in force once more is given the later version; the gateway has nothing to do."""
    body = boxed(vault.sealing_public)
    put(vault, body)
    rotate(vault)
    told: list[str] = []
    vault.changed = told.append
    assert put(vault, body | {"version": 4})["version"] == 4
    assert refusal(put, vault, body) == "rolled_back"
    assert opened(tmp_path).statement()["secrets"][0]["version"] == 4
    assert (told, vault.open_secret(NAME)) == ([], CANARY)


def test_boxes_for_one_key(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted, so that the record stays small; a new key has room again, and an old one's count ends."""
    assert MAX_TAKEN == 1024
    monkeypatch.setattr("guest.agent.vault_record.MAX_TAKEN", 3)
    for version in (1, 2, 3):
        put(vault, boxed(vault.sealing_public, version=version))
    assert refusal(put, vault, boxed(vault.sealing_public, version=4)) == "too_many"
    assert vault.revoke("OTHER", 1)["state"] == "revoked"
    first = ids(vault)[0]
    rotate(vault)
    put(vault, boxed(vault.sealing_public, version=4))
    assert first.encode() in (tmp_path / "vault.json").read_bytes()
    vault.retire(first)
    assert first.encode() not in (tmp_path / "vault.json").read_bytes()
    assert len(Record.from_bytes((tmp_path / "vault.json").read_bytes()).taken[ids(vault)[0]]) == 2


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


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=80)
    | st.from_regex(NAME_RULE, fullmatch=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@ONE_FOLDER
@given(given=st.tuples(ANYTHING, ANYTHING, ANYTHING, ANYTHING))
def test_anything_at_all(vault: Vault, given: tuple[Any, ...]) -> None:
    """Whatever JSON can say is refused by a code of the table, and no delivery leaves a trace."""
    name, version, key, sealed = given
    held = [each for each in vault.statement()["secrets"] if each["state"] == "held"]
    said = {
        refusal(vault.deliver, name, version, key, sealed),
        refusal(vault.export, name),
        refusal(vault.rotate, key),
        refusal(vault.retire, key),
        refusal(vault.revoke, name, version),
    }
    assert said <= {
        "malformed",
        "unknown_key",
        "no_such_secret",
        "not_current",
        "rolled_back",
        "too_many",
        "done",
    }
    assert held == [each for each in vault.statement()["secrets"] if each["state"] == "held"] == []


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
