"""``keyring``: the first one, changes, recovery, and how each is shown before it is signed."""

import json
from pathlib import Path

import pytest

from client.device import RECOVERY, Device
from protocol.persons import Purpose
from tests.client.conftest import Person
from tests.client.fake import Answer, Fake
from tests.protocol.people import MEMBER, OWNER, STRANGER, Passkey, entry, keyring
from tests.protocol.people import RECOVERY as OTHER_RECOVERY

POSTED = ("POST", "/api/v1/tenants/acme/keyring/")


def sent(fake: Fake) -> list[str]:
    """The paths of what was posted as a keyring."""
    return [asked.path for asked in fake.asked if (asked.method, asked.path) == POSTED]


def test_the_first_keyring(fake: Fake, newcomer: Person, tmp_path: Path) -> None:
    """The key is registered after a password, then stands as the only owner; the recovery key is in a file."""
    path = tmp_path / "recovery.json"
    out = newcomer.ok("keyring", "init", "acme", "--recovery", str(path), typed="owner\ny\n")
    own, recovery = newcomer.device.key, Device.load(path, RECOVERY)
    assert fake.current is not None
    assert fake.members.keyring is not None, "the guest took it"
    assert list(fake.current.members) == [own.fingerprint]
    assert fake.current.members[own.fingerprint].role == "owner"
    assert fake.current.recovery == recovery.key
    assert path.stat().st_mode & 0o777 == 0o600
    assert own.fingerprint in out
    assert fake.current.hash in out
    assert newcomer.pins["acme"]["hash"] == fake.current.hash
    assert fake.users == {}, "signed out"


def test_a_registered_key_needs_no_password(fake: Fake, newcomer: Person, tmp_path: Path) -> None:
    fake.know(newcomer.device.key)
    newcomer.ok("keyring", "init", "acme", "--recovery", str(tmp_path / "r.json"), "--yes")
    assert not [asked for asked in fake.asked if asked.path == "/sign-in/"]


def test_no_second_first_keyring(owner: Person, tmp_path: Path) -> None:
    told = owner.refused("keyring", "init", "acme", "--recovery", str(tmp_path / "other.json"), "--yes")
    assert "has a keyring already, version 1" in told
    assert not (tmp_path / "other.json").exists()


def test_a_recovery_file_is_not_overwritten(fake: Fake, newcomer: Person, tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    path.write_text("mine")
    told = newcomer.refused("keyring", "init", "acme", "--recovery", str(path), "--yes")
    assert "not overwritten" in told
    assert path.read_text() == "mine"
    assert fake.asked == []


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_signed(fake: Fake, newcomer: Person, tmp_path: Path, typed: str) -> None:
    fake.know(newcomer.device.key)
    newcomer.refused("keyring", "init", "acme", "--recovery", str(tmp_path / "r.json"), typed=typed)
    assert not (tmp_path / "r.json").exists()
    assert sent(fake) == []


def test_a_refused_first_keyring_leaves_no_file(fake: Fake, newcomer: Person, tmp_path: Path) -> None:
    fake.know(newcomer.device.key)
    fake.breaks(*POSTED, Answer(403, {"code": "not_allowed", "detail": "Only owners."}))
    told = newcomer.refused("keyring", "init", "acme", "--recovery", str(tmp_path / "r.json"), "--yes")
    assert "Only owners." in told
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize(
    "answer", [None, Answer(502, raw=b"bad gateway"), Answer(200, {"version": 1, "hash": "0"})]
)
def test_if_the_outcome_is_not_known_the_recovery_key_is_kept(
    fake: Fake, newcomer: Person, tmp_path: Path, answer: Answer | None
) -> None:
    """The portal may have taken it before the line broke; then the file is all that can ever replace the owner."""
    fake.know(newcomer.device.key)
    fake.breaks(*POSTED, answer)
    told = newcomer.refused("keyring", "init", "acme", "--recovery", str(tmp_path / "r.json"), "--yes")
    assert "not known" in told
    assert f"Keep {tmp_path / 'r.json'}" in told
    assert fake.current is not None
    assert Device.load(tmp_path / "r.json", RECOVERY).key == fake.current.recovery


def test_adding_shows_who_it_is_and_asks(fake: Fake, owner: Person) -> None:
    fake.know(MEMBER.key, "Ben's phone\x1b[2J", user="ben", role="member")
    before = fake.current
    told = owner.run("keyring", "add", "acme", MEMBER.key.fingerprint, typed="no\n")
    assert told.status == 1
    assert (
        f"+ {MEMBER.key.fingerprint}  member, device, Ben's phone?[2J, user ben (member at the portal)"
        in told.out
    )
    assert "\x1b" not in told.text
    assert fake.current is before
    owner.ok("keyring", "add", "acme", MEMBER.key.fingerprint, typed="y\n")
    assert fake.current is not None
    assert fake.current.version == 2
    assert fake.current.members[MEMBER.key.fingerprint].role == "member"
    assert fake.members.keyring == fake.current


def test_a_passkey_and_a_role_and_a_removal(fake: Fake, owner: Person) -> None:
    passkey = Passkey()
    fake.know(passkey.key, user="ben")
    owner.ok("keyring", "add", "acme", passkey.key.fingerprint, "--role", "owner", "--yes")
    assert "as owner" in owner.refused("keyring", "add", "acme", passkey.key.fingerprint, "--role", "owner")
    del fake.keys[passkey.key.fingerprint]
    out = owner.ok("keyring", "add", "acme", passkey.key.fingerprint, "--role", "member", "--yes")
    assert "was owner" in out
    out = owner.ok("keyring", "remove", "acme", passkey.key.fingerprint, "--yes")
    assert f"- {passkey.key.fingerprint}" in out
    assert fake.members.keyring is not None
    assert fake.members.keyring.version == 4
    assert list(fake.members.keyring.members) == [owner.device.key.fingerprint]


def test_what_cannot_be_added_or_removed(fake: Fake, owner: Person) -> None:
    assert "registered" in owner.refused("keyring", "add", "acme", STRANGER.key.fingerprint, "--yes")
    assert "No key" in owner.refused("keyring", "remove", "acme", STRANGER.key.fingerprint, "--yes")
    last = owner.refused("keyring", "remove", "acme", owner.device.key.fingerprint, "--yes")
    assert "An owner must be left" in last
    assert owner.run("keyring", "add", "acme", STRANGER.key.fingerprint[:16]).status == 2
    assert len(sent(fake)) == 1, "only the first keyring"


def test_a_key_under_another_fingerprint_is_noticed(fake: Fake, owner: Person) -> None:
    """The portal tries to have its own key signed in place of Ben's."""
    fake.know(MEMBER.key, user="ben")
    fake.keys[MEMBER.key.fingerprint]["public_key"] = STRANGER.key.public_key.hex()
    told = owner.refused("keyring", "add", "acme", MEMBER.key.fingerprint, "--yes")
    assert "another key's fingerprint" in told
    assert len(sent(fake)) == 1


def test_a_member_cannot_sign(fake: Fake, newcomer: Person) -> None:
    own = newcomer.device.key
    fake.know(own)
    fake.know(MEMBER.key)
    fake.show(keyring(fake.tenant_id, entry(OWNER.key), entry(own, "member")), OWNER)
    for words in (["add", "acme", MEMBER.key.fingerprint], ["remove", "acme", OWNER.key.fingerprint]):
        assert "Only an owner" in newcomer.refused("keyring", *words, "--yes")
    assert sent(fake) == []


def test_before_the_first_keyring(fake: Fake, newcomer: Person) -> None:
    fake.know(newcomer.device.key)
    assert "no keyring yet" in newcomer.ok("keyring", "show", "acme")
    assert "no keyring yet" in newcomer.refused("keyring", "add", "acme", "0" * 64, "--yes")


def test_recovery(fake: Fake, owner: Person, tmp_path: Path) -> None:
    """A new device, the recovery key and a password: an owner again, the lost device dropped, the key replaced."""
    lost = owner.device.key.fingerprint
    fake.know(MEMBER.key, user="ben")
    owner.ok("keyring", "add", "acme", MEMBER.key.fingerprint, "--yes")
    owner.folder = tmp_path / "new device"
    owner.ok("key", "new")
    old, new = tmp_path / "recovery.json", tmp_path / "recovery-2.json"
    words = ["keyring", "recover", "acme", "--recovery", str(old), "--new-recovery", str(new)]
    out = owner.ok(*words, "--drop", lost, typed="owner\nyes\n")
    assert f"{old} is spent" in out
    ring = fake.members.keyring
    assert ring is not None
    assert ring.version == 3
    roles = {fingerprint: member.role for fingerprint, member in ring.members.items()}
    assert roles == {MEMBER.key.fingerprint: "member", owner.device.key.fingerprint: "owner"}
    assert ring.recovery == Device.load(new, RECOVERY).key
    owner.ok("fingerprints", "acme")
    again = [*words[:-1], str(tmp_path / "recovery-3.json")]
    assert "not the recovery key" in owner.refused(*again, "--yes")
    assert not (tmp_path / "recovery-3.json").exists()


def test_recovery_of_a_member_makes_an_owner(fake: Fake, owner: Person, tmp_path: Path) -> None:
    words = ["keyring", "recover", "acme", "--recovery", str(tmp_path / "recovery.json")]
    words += ["--new-recovery", str(tmp_path / "two.json"), "--yes"]
    assert "Leave it out" in owner.refused(*words, "--drop", owner.device.key.fingerprint)
    assert "not in the keyring" in owner.refused(*words, "--drop", STRANGER.key.fingerprint)
    (tmp_path / "two.json").write_text("{}")
    assert "not overwritten" in owner.refused(*words)
    words[4] = str(tmp_path / "none.json")
    (tmp_path / "two.json").unlink()
    assert "There is no file" in owner.refused(*words)
    words[4] = str(owner.folder / "device-key.json")
    assert "not a recovery key" in owner.refused(*words)


def test_show_puts_portal_and_guest_side_by_side(fake: Fake, owner: Person) -> None:
    out = owner.ok("keyring", "show", "acme")
    assert fake.current is not None
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}
    assert lines["version"] == ["1", "1"]
    assert lines["hash"] == [fake.current.hash] * 2
    assert lines["recovery"] == [fake.current.recovery.fingerprint] * 2
    assert lines["owner"][0] == owner.device.key.fingerprint
    assert lines["owner"][-1] == "yes"
    assert "agrees" in out


def test_show_says_where_they_differ(fake: Fake, owner: Person) -> None:
    """The portal itself says that they agree; the client looks."""
    fake.deliver = False
    fake.know(MEMBER.key)
    owner.ok("keyring", "add", "acme", MEMBER.key.fingerprint, "--yes")
    told = owner.refused("keyring", "show", "acme")
    assert "portal 2, guest 1" in told
    assert f"Only in the portal's keyring: {MEMBER.key.fingerprint}" in told


def test_a_guest_with_a_keyring_of_which_the_portal_tells_nothing(fake: Fake, newcomer: Person) -> None:
    fake.know(newcomer.device.key)
    fake.show(keyring(fake.tenant_id), OWNER)
    fake.current = None
    assert "portal none, guest 1" in newcomer.refused("keyring", "show", "acme")


def test_others_tenants_are_not_found(newcomer: Person, fake: Fake) -> None:
    fake.know(newcomer.device.key)
    assert "Not found" in newcomer.refused("keyring", "show", "other")
    assert newcomer.run("keyring", "show", "../admin").status == 2


def test_a_recovery_key_is_not_a_device_key(owner: Person, tmp_path: Path) -> None:
    """What is kept for the worst day does not sign in by mistake."""
    data = json.loads((tmp_path / "recovery.json").read_text())
    (owner.folder / "device-key.json").unlink()
    (tmp_path / "recovery.json").rename(owner.folder / "device-key.json")
    assert data["use"] == "recovery"
    assert "not a device key" in owner.refused("keyring", "show", "acme")
    (owner.folder / "device-key.json").unlink()


def test_signatures_are_for_keyrings(fake: Fake, owner: Person) -> None:
    """What was handed in carries the signer, and is good for this purpose only."""
    posted = [asked.document for asked in fake.asked if (asked.method, asked.path) == POSTED]
    assert posted[0]["signature"] == owner.device.sign(Purpose.KEYRING, posted[0]["document"])
    assert OTHER_RECOVERY.key.fingerprint != posted[0]["signature"]["by"]
