"""The export of break-glass: one honest file, and every way in which one must not be believed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.access_receipts import Receipt as Deed
from protocol.access_receipts import head_note
from protocol.notes import vkey_of
from protocol.receipt_texts import written
from protocol.verify.__main__ import main
from protocol.verify.access import verify_access
from protocol.verify.outcome import Keys, VerificationError
from tests.protocol.access_files import GUEST, NOW, RUNTIME, TENANT, AccessFile
from tests.protocol.logs import KEY
from tests.protocol.people import Passkey

KEYS = Keys(KEY)
READ = {"scope": "workspace:read", "method": "GET", "path": "reports/a.txt"}


def test_an_honest_file(tmp_path: Path) -> None:
    """It says who asked, why, who let them in, and each path, and how far the log holds it."""
    found = verify_access(AccessFile().make().write(tmp_path / "f"), KEYS)
    assert (found.tenant_id, found.runtime_id) == (TENANT, RUNTIME)
    assert (found.first, found.last, found.anchored) == (1, 5, 5)
    told = "\n".join(found.deeds)
    for words in ("Rita Requester", "nightly report", "Person 2", "Person 3", "reports/a.txt", "owner's key"):
        assert words in told


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(AccessFile().make().write(tmp_path / "f"))
    assert main(["access", path, "--key", str(KEY), "--guest", str(GUEST)]) == 0
    assert "receipts 1 to 5" in capsys.readouterr().out
    other = vkey_of(GUEST.name, b"\x09" * 32, GUEST.algorithm)
    assert main(["access", path, "--key", str(KEY), "--guest", str(other)]) == 1
    assert "the machine has not signed" in capsys.readouterr().err


def test_what_a_terminal_would_obey_is_escaped(tmp_path: Path) -> None:
    """Paths and arguments are an operator's text."""
    deeds = [("granted", NOW + 1, {}), ("access", NOW + 2, {**READ, "path": "reports/\x1b[2J"})]
    found = verify_access(AccessFile(deeds=deeds).make().write(tmp_path / "f"), KEYS)
    assert all(line.isascii() and line.isprintable() for line in found.deeds)


def test_a_name_that_a_receipt_must_escape(tmp_path: Path) -> None:
    """A path is held against the ticket as it was served, and not as the receipt had to spell it."""
    folder, file = "Gr\u00f6\u00dfe", "Gr\u00f6\u00dfe/e\u0301.txt"
    deeds = [("granted", NOW + 1, {}), ("access", NOW + 2, written({**READ, "path": file}))]
    honest = AccessFile(deeds=deeds, more={"paths": [folder]}).make().write(tmp_path / "f")
    assert "Gr\\\\u00f6\\\\u00dfe/e\\\\u0301.txt" in "\n".join(verify_access(honest, KEYS).deeds)
    outside = [("granted", NOW + 1, {}), ("access", NOW + 2, {**READ, "path": "a\\", "escaped": ["path"]})]
    with pytest.raises(VerificationError, match="not escaped"):
        verify_access(AccessFile(deeds=outside).make().write(tmp_path / "g"), KEYS)


def test_a_file_that_the_log_holds_in_part(tmp_path: Path) -> None:
    """What came after the newest entry rests on the machine's signature: it is said up to where."""
    file = AccessFile().make().without("entry", 1)
    assert verify_access(file.write(tmp_path / "f"), KEYS).anchored == 0


def test_an_owners_signature_is_not_needed(tmp_path: Path) -> None:
    found = verify_access(AccessFile(by_owner=False).make().write(tmp_path / "f"), KEYS)
    assert "owner's key" not in "\n".join(found.deeds)


def test_an_owners_signature_that_no_receipt_names(tmp_path: Path) -> None:
    """A portal can make a keyring and sign as its owner: without the guest's word nothing is said of it."""
    file = AccessFile().make()
    granted = file.lines[4]["receipt"]
    assert granted["event"] == "granted"
    file.lines[0]["after"] = {"seq": 1, "hash": Deed.parse(granted).hash}
    found = verify_access(file.without("receipt", 0).write(tmp_path / "f"), KEYS)
    assert found.first == 2
    assert "owner's key" not in "\n".join(found.deeds)


def _member(name: str, value: Any) -> Callable[[Any], Any]:
    return lambda document: {**document, name: value}


def _ticket(name: str, value: Any) -> Callable[[Any], Any]:
    return lambda grant: {**grant, "document": {**grant["document"], name: value}}


MADE: dict[str, tuple[dict[str, Any], str]] = {
    "too few approvals": ({"signers": 1}, "fewer people have approved"),
    "the requester approves": (
        {"requester": (alias := Passkey()), "approvers": (alias, Passkey())},
        "the requester may not approve",
    ),
    "a path outside": (
        {"deeds": [("granted", NOW + 1, {}), ("access", NOW + 2, {**READ, "path": "reportsx"})]},
        "does not reach that path",
    ),
    "a scope that was not given": (
        {"deeds": [("granted", NOW + 1, {}), ("access", NOW + 2, {"scope": "exec", "argv": ["id"]})]},
        "does not give that scope",
    ),
    "access after the end": (
        {"deeds": [("granted", NOW + 1, {}), ("ended", NOW + 2, {}), ("access", NOW + 3, READ)]},
        "after its ticket was over",
    ),
    "access after its time": (
        {"deeds": [("granted", NOW + 1, {}), ("access", NOW + 604, READ)]},
        "after its ticket was over",
    ),
    "entries of another tenant": ({"entries_of": RUNTIME}, "an entry of another tenant"),
    "people whom the guest has not seen": ({"noted": {"people": ["user:2"]}}, "other people had approved"),
    "an owner whom the guest has not seen": ({"noted": {"owner": ""}}, "another owner's signature"),
    "an owner whom the file leaves out": (
        {"by_owner": False, "noted": {"owner": "ab" * 32}},
        "another owner's signature",
    ),
    "a guest that does not say who signed": ({"noted": {"people": None}}, "other people had approved"),
    "a grant after the waiting time": ({"deeds": [("granted", NOW + 9000, {})]}, "ticket was over"),
}


@pytest.mark.parametrize("name", MADE)
def test_what_a_guest_would_never_have_done(tmp_path: Path, name: str) -> None:
    """All signatures and hashes fit, and the ticket still does not carry it."""
    more, words = MADE[name]
    with pytest.raises(VerificationError, match=words):
        verify_access(AccessFile(**more).make().write(tmp_path / "f"), KEYS)


BENT: dict[str, tuple[Callable[[AccessFile], AccessFile], str]] = {
    "another reason": (lambda f: f.change("grant", _ticket("reason", "x" * 30)), "requester's signature"),
    "wider paths": (lambda f: f.change("grant", _ticket("paths", [""])), "requester's signature"),
    "another tenant's ticket": (
        lambda f: f.change("grant", _ticket("tenant_id", RUNTIME)),
        "another tenant or machine",
    ),
    "no set": (lambda f: f.without("set"), "approver set of ticket"),
    "no keyring": (lambda f: f.without("keyring"), "no keyring stands before it"),
    "no grant": (lambda f: f.without("grant"), "its ticket does not stand before it"),
    "a receipt taken out": (lambda f: f.without("receipt", 2), "stands where 3 must"),
    "the last one taken out": (lambda f: f.without("receipt", 4), "has not signed"),
    "a receipt changed": (
        lambda f: f.change("receipt", _member("detail", {**READ, "path": "reports/b.txt"}), 2),
        "does not follow the one before",
    ),
    "the last one changed": (lambda f: f.change("receipt", _member("at", NOW + 31), 4), "has not signed"),
    "another machine's receipt": (
        lambda f: f.change("receipt", _member("runtime_id", TENANT), 1),
        "another guest's",
    ),
    "no head": (lambda f: f.without("head"), "machine's word"),
    "a head by another key": (
        lambda f: f.change("head", lambda _note: head_note(RUNTIME, (5, "0" * 64), b"\x08" * 32)),
        "has not signed",
    ),
    "no key of the machine": (lambda f: f.without("entry", 0), "give --guest"),
    "no entry": (lambda f: f.without("entry", 0).without("entry", 0), "give --guest"),
    "an entry changed": (
        lambda f: f.change("entry", lambda text: text.replace('\\"from\\":1', '\\"from\\":2'), 1),
        "line 12",
    ),
    "another tenant's file": (lambda f: f.change("format", lambda _f: "portal receipt v1"), "this is no"),
    "an unknown line": (lambda f: f.change("head", lambda _note: 7), "wrong kind"),
}


@pytest.mark.parametrize("name", BENT)
def test_a_file_that_was_changed(tmp_path: Path, name: str) -> None:
    bend, words = BENT[name]
    with pytest.raises(VerificationError, match=words):
        verify_access(bend(AccessFile().make()).write(tmp_path / "f"), KEYS)


def test_the_log_holds_another_chain(tmp_path: Path) -> None:
    """A machine that signs two chains is found out by the log: the file's head is signed, and not that one."""
    honest, other = AccessFile().make(), AccessFile(deeds=[("ended", NOW + n, {}) for n in range(5)]).make()
    entries = [line for line in other.lines if "entry" in line]
    honest.lines = [line for line in honest.lines if "entry" not in line] + entries
    with pytest.raises(VerificationError, match="the log holds another receipt 5"):
        verify_access(honest.write(tmp_path / "f"), KEYS)


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    """Every shorter file is refused, or rests on the machine's word alone and says so."""
    path = AccessFile().make().write(tmp_path / "f")
    whole = path.read_bytes()
    for at in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:at])
        with pytest.raises(VerificationError):
            verify_access(path, KEYS)


def test_names_that_stand_twice(tmp_path: Path) -> None:
    path = AccessFile().make().write(tmp_path / "f")
    path.write_text(path.read_text() + '{"head":"a","head":"b"}\n')
    with pytest.raises(VerificationError, match="not JSON"):
        verify_access(path, KEYS)
