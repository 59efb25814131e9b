"""The record from the command line: this device is a witness of the log."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client.log import Memory, Seen
from protocol.checkpoints import opened, signed
from protocol.notes import VerifierKey, vkey_of
from protocol.receipts import Receipt, check
from tests.client.conftest import Person
from tests.client.fake import RECORD, Answer, Fake
from tests.client.log_fake import NAME

COMMANDS = [["list"], ["receipt", "1"], ["verify"], ["pin"]]
"""Each of them looks at the log first."""
every_command = pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])


def asked(person: Person, words: list[str]) -> list[str]:
    return ["record", words[0], "acme", *words[1:]]


def kept(person: Person) -> int:
    """The size of the checkpoint that the device keeps."""
    found = json.loads((person.folder / "log.json").read_text())[person.portal]
    return opened(found["checkpoint"], VerifierKey.parse(found["key"])).size


def test_the_list(fake: Fake, owner: Person) -> None:
    """One page, or all; for people or for programs."""
    assert owner.ok("record", "list", "acme").count("first.") == 4
    assert owner.ok("record", "list", "acme", "--all").count("first.") == 5
    assert len(json.loads(owner.ok("record", "list", "acme", "--json"))) == 4
    owner.ok("record", "list", "acme", "--topic", "all", "--since", "2026-01-01")
    assert fake.asked[-2].path == f"{RECORD}?since=2026-01-01"


def test_a_receipt_is_checked_shown_and_kept(fake: Fake, owner: Person, tmp_path: Path) -> None:
    file = tmp_path / "receipt"
    said = owner.ok("record", "receipt", "acme", "3", str(file))
    assert '"action": "first.1"' in said
    assert "Entry 2 of 10 in the log" in said
    assert check(Receipt.parse(file.read_bytes()), VerifierKey.parse(fake.log.key)).index == 2
    assert file.stat().st_mode & 0o777 == 0o600
    assert "exists already" in owner.refused("record", "receipt", "acme", "3", str(file))
    assert "refuses" in owner.refused("record", "receipt", "acme", "2")


def test_all_entries_are_checked_and_kept(fake: Fake, owner: Person, tmp_path: Path) -> None:
    """Over several parts, in one file that the verifier takes."""
    file = tmp_path / "receipts.jsonl"
    assert "5 entries of acme are in the log" in owner.ok("record", "verify", "acme", str(file))
    found = [
        check(Receipt.parse(line), VerifierKey.parse(fake.log.key)) for line in file.read_bytes().splitlines()
    ]
    assert [one.event["action"] for one in found] == [f"first.{number}" for number in range(5)]
    assert len([one for one in fake.asked if one.path == f"{RECORD}receipts/"]) == 2


@every_command
def test_the_newest_checkpoint_is_kept(fake: Fake, owner: Person, words: list[str]) -> None:
    """At first sight, which is said; later with proof."""
    first = owner.run(*asked(owner, words))
    assert (first.status, "for the first time" in first.err) == (0, True), first.text
    assert kept(owner) == 10
    fake.log.add("later")
    again = owner.run(*asked(owner, words))
    assert (again.status, "with 1 more behind it" in again.err) == (0, True), again.text
    assert kept(owner) == 11
    assert "and nothing behind it" in owner.run(*asked(owner, words)).err


def shrink(fake: Fake) -> None:
    del fake.log.events[-3:]


def shrink_and_grow(fake: Fake) -> None:
    """As a restored backup, and then other things happened."""
    shrink(fake)
    for number in range(9):
        fake.log.add(f"other.{number}")


def rewrite(fake: Fake) -> None:
    fake.log.rewrite()


def rewrite_and_grow(fake: Fake) -> None:
    fake.log.rewrite(4)
    fake.log.add("later")


def other_key(fake: Fake) -> None:
    fake.log.seed = b"\7" * 32


def smaller(fake: Fake) -> None:
    """An answer that is older than what was asked from."""
    note = fake.log.note(4)
    fake.bent["GET", f"{RECORD}consistency/"] = lambda given: replace(
        given, document={**given.document, "checkpoint": note, "proof": ""}
    )


def without_proof(fake: Fake) -> None:
    fake.log.add("later")
    fake.bent["GET", f"{RECORD}consistency/"] = lambda given: replace(
        given, document={**given.document, "proof": ""}
    )


def not_a_proof(fake: Fake) -> None:
    fake.log.add("later")
    fake.bend("GET", f"{RECORD}consistency/", proof="x\n")


LIES: dict[Callable[[Fake], None], str] = {
    shrink: "ROLLED BACK",
    shrink_and_grow: "FORKED",
    rewrite: "FORKED",
    rewrite_and_grow: "FORKED",
    other_key: "SIGNED BY ANOTHER KEY",
    smaller: "ROLLED BACK",
    without_proof: "FORKED",
    not_a_proof: "FORKED",
}


@every_command
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_log_that_is_not_the_one_seen_before(
    fake: Fake, owner: Person, words: list[str], lie: Callable[[Fake], None]
) -> None:
    """Whatever was typed: a warning, both checkpoints as evidence, and what was seen stays."""
    owner.ok("record", "pin", "acme")
    seen = fake.log.note()
    lie(fake)
    said = owner.refused(*asked(owner, words))
    assert LIES[lie] in said
    (path,) = owner.folder.glob("log-evidence-*.json")
    assert str(path) in said
    assert path.stat().st_mode & 0o777 == 0o600
    evidence = json.loads(path.read_text())
    assert opened(evidence["seen"], VerifierKey.parse(evidence["key"])) == opened(
        seen, VerifierKey.parse(evidence["key"])
    )
    assert kept(owner) == 10
    assert opened(fake.log.disputed[-1], VerifierKey.parse(evidence["key"])).size == 10


def test_evidence_is_never_wiped(fake: Fake, owner: Person) -> None:
    """A portal that was caught tells another lie; the same lie again is kept once."""
    owner.ok("record", "pin", "acme")
    rewrite(fake)
    owner.refused("record", "list", "acme")
    (first,) = owner.folder.glob("log-evidence-*.json")
    proof = first.read_bytes()
    lied = list(fake.log.events)
    shrink(fake)
    for _ in range(2):
        assert "ROLLED BACK" in owner.refused("record", "list", "acme")
        assert len(list(owner.folder.glob("log-evidence-*.json"))) == 2
        assert first.read_bytes() == proof
    first.write_bytes(proof[:100])  # a machine that lost its power
    fake.log.events = lied
    owner.refused("record", "list", "acme")
    assert proof in [path.read_bytes() for path in owner.folder.glob("log-evidence-*-2.json")]


every_receipt = pytest.mark.parametrize("words", [["receipt", "1"], ["verify"]], ids=lambda words: words[0])


@every_receipt
def test_another_tenants_entries_are_not_taken_for_ours(fake: Fake, owner: Person, words: list[str]) -> None:
    """Proved, all of one tenant, and not of the one whose keyring this device has seen."""
    raw = f"{fake.log.receipt(1)}\n".encode()
    method, path = ("GET", "1/receipt/") if words[0] == "receipt" else ("POST", "receipts/")
    fake.breaks(method, f"{RECORD}{path}", Answer(200, raw=raw))
    assert "another tenant" in owner.refused(*asked(owner, words))


@every_receipt
@pytest.mark.parametrize(
    "lie", [{"action": "other.done"}, {"at": "2026-01-01T00:00:59"}, {"at": "x"}, {"index": 4}], ids=str
)
def test_the_list_must_say_what_the_log_says(
    fake: Fake, owner: Person, words: list[str], lie: dict[str, object]
) -> None:
    """A good receipt for another entry than the one that people see in the list."""
    told = {**fake.log.told(0), **lie}
    fake.bend("GET", f"{RECORD}1/", **told)
    rows = [fake.log.told(8), told] if "index" not in lie else [{**told, "index": 6}]
    fake.bend("GET", RECORD, entries=rows)
    assert "tells another thing" in owner.refused(*asked(owner, words))


def test_an_entry_in_the_list_without_a_proof_is_said(fake: Fake, owner: Person) -> None:
    """It may be too new, or archived; it may also be hidden."""
    assert "without proof" not in owner.run("record", "verify", "acme").err
    fake.bend("GET", RECORD, entries=[{**fake.log.told(8), "index": 77}])
    assert "1 of the newest entries" in owner.run("record", "verify", "acme").err


def test_without_a_keyring_the_tenant_is_the_portals_word(fake: Fake, newcomer: Person) -> None:
    """Which is said."""
    fake.know(newcomer.device.key, "Ann's laptop")
    assert "is the portal's word" in newcomer.run("record", "verify", "acme").err


@every_receipt
def test_a_receipt_of_another_log_proves_nothing(fake: Fake, owner: Person, words: list[str]) -> None:
    """Its checkpoint must be of the log that was seen, though the log's key has signed it."""
    owner.ok("record", "pin", "acme")
    lying = Fake(owner.folder)
    lying.log.tenant_id, lying.log.events = fake.log.tenant_id, list(fake.log.events)
    lying.log.rewrite()
    lying.log.add("later")
    raw = f"{lying.log.receipt(0)}\n".encode()
    method, path = ("GET", "1/receipt/") if words[0] == "receipt" else ("POST", "receipts/")
    fake.breaks(method, f"{RECORD}{path}", Answer(200, raw=raw))
    fake.log.add("later")
    assert "FORKED" in owner.refused(*asked(owner, words))


@pytest.mark.parametrize(
    "raw",
    [b"", b"x\n", b"{}\n", b"[" * 100_000 + b"\n", b"\xff\n", b'{"format":"portal receipt v1"}\n'],
)
def test_what_is_no_receipt(fake: Fake, owner: Person, tmp_path: Path, raw: bytes) -> None:
    """And no file of it is left."""
    fake.breaks("GET", f"{RECORD}1/receipt/", Answer(200, raw=raw))
    file = tmp_path / "file"
    assert "proves nothing" in owner.refused("record", "receipt", "acme", "1", str(file))
    fake.breaks("POST", f"{RECORD}receipts/", Answer(200, raw=raw))
    if raw:
        assert "proves nothing" in owner.refused("record", "verify", "acme", str(file))
    assert not file.exists()


def test_changed_words_are_noticed(fake: Fake, owner: Person, tmp_path: Path) -> None:
    """A receipt whose event says something else than the leaf; one that is cut short; another tenant's."""
    file = tmp_path / "file"
    good = fake.log.receipt(0)
    for raw, words in [
        (good.replace("first.0", "first.9") + "\n", "proves nothing"),
        (good, "in the middle of a receipt"),
        (good + "\n" + fake.log.receipt(1) + "\n", "another tenant"),
        ("x" * 1_100_000, "too long"),
    ]:
        fake.breaks("POST", f"{RECORD}receipts/", Answer(200, raw=raw.encode()))
        assert words in owner.refused("record", "verify", "acme", str(file))
        assert not file.exists()


@pytest.mark.parametrize("told", ["0", "-1", "x", "3", "9" * 30])
def test_a_download_always_ends(fake: Fake, owner: Person, told: str) -> None:
    """A portal that says to begin where we were is not asked for ever."""
    fake.bent["POST", f"{RECORD}receipts/"] = lambda given: replace(given, headers={"Portal-Next": told})
    assert "where its record goes on" in owner.refused("record", "verify", "acme")


def test_the_key_can_come_from_elsewhere(fake: Fake, owner: Person) -> None:
    """Then nothing is believed at first sight; and a new key is taken only by a person's word."""
    other = str(vkey_of(NAME, b"\x08" * 32))
    assert "not signed with that key" in owner.refused("record", "pin", "acme", "--key", other)
    owner.ok("record", "pin", "acme", "--key", fake.log.key)
    assert "nothing behind it" in owner.run("record", "pin", "acme", "--key", fake.log.key).err
    other_key(fake)
    owner.refused("record", "list", "acme")
    assert "Another key than before" in owner.run("record", "pin", "acme", "--key", fake.log.key).err
    owner.ok("record", "list", "acme")
    assert owner.run("record", "pin", "acme", "--key", "x").status == 2


def test_witnesses_signatures_are_checked(fake: Fake, owner: Person) -> None:
    assert "witness  your own machine, 20" in owner.ok("record", "pin", "acme")
    fake.bent["GET", f"{RECORD}checkpoint/"] = lambda given: replace(
        given, document={**given.document, "checkpoint": fake.log.note()}
    )
    assert "that is none" in owner.refused("record", "pin", "acme")


def test_the_machine_has_seen_the_same_log(fake: Fake, owner: Person) -> None:
    """Also an older part of it; another one, another key, or contradictions are an alarm."""
    assert "has seen no checkpoint yet" in owner.ok("record", "verify", "acme", "--machine")
    fake.log.machine["note"] = fake.log.note(4)
    assert "as far as 4 entries" in owner.ok("record", "verify", "acme", "--machine")
    good = dict(fake.log.machine)
    forked = signed(
        replace(opened(fake.log.note(4), VerifierKey.parse(fake.log.key)), root=b"\1" * 32),
        fake.log.seed,
        NAME,
    )
    lies: list[tuple[dict[str, object], str]] = [
        ({"note": forked}, "FORKED"),
        ({"log": str(vkey_of(NAME, b"\x08" * 32))}, "another log's key"),
        ({"contradictions": [{}]}, "contradict each other"),
    ]
    for lie, words in lies:
        fake.log.machine = {**good, **lie}
        assert words in owner.refused("record", "verify", "acme", "--machine")


@pytest.mark.parametrize(
    "content", ["x", "[]", '{"PORTAL": 3}', '{"PORTAL": {"key": "x", "checkpoint": "y"}}']
)
def test_a_damaged_memory_is_not_begun_anew(owner: Person, content: str) -> None:
    """Forgetting would mean trusting whatever comes next."""
    file = owner.folder / "log.json"
    file.write_text(content.replace("PORTAL", owner.portal))
    file.chmod(0o600)
    assert "log.json is damaged" in owner.refused("record", "list", "acme")


def test_nothing_that_a_terminal_would_obey(fake: Fake, owner: Person) -> None:
    fake.log.events[0] = fake.log.events[0].replace("first", "\\u001b[2J")
    entry = {
        "id": 1,
        "index": None,
        "at": "\x1b[2J",
        "action": "\x1b[2J",
        "who": "\x1b[2J",
        "what": "\x1b[2J",
    }
    fake.bend("GET", RECORD, entries=[entry])
    for words in (["list"], ["receipt", "1"]):
        assert "\x1b" not in owner.ok(*asked(owner, words))


@pytest.mark.parametrize("entry", ["0", "-1", "x", "9" * 30, "²"])
def test_a_bad_id_is_never_sent(fake: Fake, owner: Person, entry: str) -> None:
    before = len(fake.asked)
    assert owner.run("record", "receipt", "acme", entry).status == 2
    assert len(fake.asked) == before


def test_what_was_seen_last_is_never_replaced_by_less(fake: Fake, owner: Person) -> None:
    """Two commands at once, of which the slower has seen less; only a person's word begins anew."""
    memory = Memory(owner.folder, owner.portal)
    key = VerifierKey.parse(fake.log.key)
    memory.put(Seen(key, fake.log.note(9)))
    memory.put(Seen(key, fake.log.note(4)))
    assert kept(owner) == 9
    memory.put(Seen(key, fake.log.note(4)), whatever=True)
    assert kept(owner) == 4
