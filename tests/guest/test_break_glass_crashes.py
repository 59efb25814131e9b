"""Grants, ends and receipts when the agent is killed at any statement, or the machine loses its power."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guest.agent.breakglass.guard import Guard
from guest.agent.breakglass.marks import Marks
from guest.agent.breakglass.scopes import RULES
from guest.agent.breakglass.store import FILE, BreakGlassFileError
from guest.agent.breakglass.terms import PinnedTerms
from guest.agent.breakglass.visits import Visit
from guest.agent.members import Members
from protocol.access_receipts import START, Receipt, check_chain, head_key, open_head
from protocol.enrolment import runtime_dns_name
from protocol.notes import COSIGNATURE_V1, vkey_of
from protocol.persons import Purpose
from protocol.verify.deeds import Course
from tests.guest.crashes import lay_out, recorded
from tests.guest.glass import BOTH, SEED, Clock, Glass, all_scopes
from tests.protocol.people import ORIGIN, OWNER, keyring
from tests.protocol.ticketing import ANN, BEN, RUNTIME_ID, TENANT_ID, a_grant, a_ticket

KILLED = 9
_CHANGE = "UPDATE receipt SET text = CAST(replace(text, 'done', 'gone') AS BLOB) WHERE seq = 2"
ROUTE = ("GET", "/v1/break-glass/files")
DEEDS = ["granted", "session", "access", "outcome", "ended", "never seen"]


def deeds(glass: Glass, grant: Any, unseen: str) -> Iterator[str]:
    """A whole access; each deed is told once it is answered."""
    opened = glass.access.take(grant)
    yield "granted"
    name = glass.session(opened)
    yield "session"
    session = glass.access.session(opened.ticket.ticket, name)
    visit = Visit(opened, "a-token", RULES[ROUTE], session, "logs/a", glass.access)
    Guard(glass.access, ORIGIN)._note_access(visit, ROUTE, {"path": "logs/a"})
    yield "access"
    glass.access.note(visit, "outcome", status=200)
    yield "outcome"
    glass.access.end(opened.ticket.ticket, "portal")
    yield "ended"
    glass.access.end(unseen, "portal")
    yield "never seen"


def killed_at(folder: Path, statement: int, grant: Any, unseen: str, clock: Clock) -> tuple[bool, list[str]]:
    """Do the deeds in a process that dies at one statement: whether it did, and what it had answered."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        left = statement

        def count(_sql: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(KILLED)

        try:
            glass = Glass(folder, clock)
            glass.store._database.set_trace_callback(count)
            for deed in deeds(glass, grant, unseen):
                os.write(writer, f"{deed}\n".encode())
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        answered = told.read().split("\n")[:-1]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, KILLED}
    return code == KILLED, answered


def check(folder: Path, answered: list[str], grant: Any, unseen: str, clock: Clock) -> None:
    """What was answered is there; the chain is whole; a grant and its receipt are one, and so are its ends."""
    glass = Glass(folder, clock, "second boot")
    ticket = grant["document"]["ticket"]
    assert glass.events()[:2] == ["granted", "ended"]  # the earlier access
    events = [each["event"] for each in glass.receipts() if each["ticket"] == ticket]
    assert set(answered) - {"never seen"} <= set(events)
    assert (glass.store.digest_of(ticket) is not None) == ("granted" in events)
    assert glass.store.has_ended(ticket) == ("ended" in events)
    expected = "ended" if "ended" in events else "open" if "granted" in events else "no_grant"
    assert glass.refusal(ticket) == expected
    assert "never seen" not in answered or glass.refusal(unseen) == "ended"
    glass.access.end(ticket, "portal")
    assert glass.refusal(ticket) == "ended"
    assert len(glass.ends()) == 1 + ("granted" in events)
    glass.access.close()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A volume with an earlier access on it."""
    (tmp_path / "base").mkdir()
    glass = Glass(tmp_path / "base")
    glass.access.end(glass.access.take(a_grant()).ticket.ticket, "done")
    glass.access.close()
    return tmp_path / "base"


def test_killed_at_each_statement(base: Path) -> None:
    """Every deed is whole or has not been, and none is told before it is kept."""
    clock, statement, seen, died = Clock(), 0, set[int](), True
    while died:
        grant = a_grant(all_scopes(), by=[ANN, BEN])
        unseen = str(a_ticket()["ticket"])
        folder = base.parent / f"killed-{statement}"
        shutil.copytree(base, folder)
        died, answered = killed_at(folder, statement, grant, unseen, clock)
        assert answered == DEEDS[: len(answered)]
        check(folder, answered, grant, unseen, clock)
        seen.add(len(answered))
        shutil.rmtree(folder)
        statement += 1
    assert seen == set(range(len(DEEDS) + 1))


def test_power_lost_at_any_byte(base: Path) -> None:
    """The journal breaks off anywhere, or ends in zeros: what is left is the deeds up to a moment, whole."""
    clock, grant, unseen = Clock(), a_grant(all_scopes(), by=[ANN, BEN]), str(a_ticket()["ticket"])
    glass = Glass(base, clock)
    assert list(deeds(glass, grant, unseen)) == DEEDS
    snapshot = base.parent / "snapshot"
    shutil.copytree(base, snapshot)  # with the journal, as it is before the last connection closes
    glass.access.close()
    journal = (snapshot / f"{FILE}-wal").read_bytes()
    lengths, found = range(0, len(journal) + 1, 1031), set[int]()
    for length in [*lengths, len(journal)]:
        for rest in (b"", bytes(len(journal) - length)):
            folder = base.parent / "cut"
            shutil.copytree(snapshot, folder)
            (folder / f"{FILE}-shm").unlink()
            (folder / f"{FILE}-wal").write_bytes(journal[:length] + rest)
            Marks(folder).make(grant["document"]["ticket"])  # As it was before its end.
            found.add(len(Glass(folder, clock).events()))
            check(folder, [], grant, unseen, clock)
            shutil.rmtree(folder)
    assert found == set(range(2, 8))


def test_each_change_is_synced(base: Path) -> None:
    """SQLite syncs the journal at each commit: nothing is answered that a power cut could take back."""
    glass = Glass(base)
    assert glass.store._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert glass.store._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert (base / FILE).stat().st_mode & 0o777 == 0o600


def test_terms_at_any_instant(tmp_path: Path) -> None:
    """A stop leaves the terms before or after, whole; once it is answered, only those after."""
    folder, shut = tmp_path / "volume", {"ordinary": "closed", "emergency": "closed"}
    folder.mkdir()
    members = Members(folder, TENANT_ID, BOTH)
    document = keyring(TENANT_ID)
    members.take_keyring(document, OWNER.sign(Purpose.KEYRING, document))
    first = {"version": 1, "tenant_id": TENANT_ID, "ordinary": "owner", "emergency": "approvers"}
    PinnedTerms(folder, members, TENANT_ID, BOTH).take(first, OWNER.sign(Purpose.TERMS, first))
    second = {**first, **shut, "version": 2}

    def deed() -> None:
        PinnedTerms(folder, members, TENANT_ID, BOTH).take(second, OWNER.sign(Purpose.TERMS, second))

    recording = recorded(folder, deed)

    def versions(since: int) -> set[int]:
        found = set()
        for files in recording.states(since):
            terms = PinnedTerms(lay_out(tmp_path / "state", files), members, TENANT_ID, BOTH).now
            assert terms is not None
            found.add(terms.version)
        return found

    assert versions(0) == {1, 2}
    assert versions(len(recording.log)) == {2}


# The chain


def test_the_head_is_signed_by_the_witness_key(base: Path) -> None:
    """With the key that the status states, as a plain note; and it says how far the chain goes."""
    glass = Glass(base)
    vkey = vkey_of(runtime_dns_name(RUNTIME_ID), SEED, COSIGNATURE_V1)
    stated = glass.access.statement()["receipts"]
    position = open_head(glass.access.chain.note(), head_key(RUNTIME_ID, str(vkey)))
    assert position == (stated["seq"], stated["hash"]) == (2, glass.access.chain.position[1])
    assert check_chain(glass.access.chain.page(0), START, runtime_id=RUNTIME_ID) == position


def test_pages_of_the_chain(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many at once, and not too large together; the next page follows."""
    monkeypatch.setattr("guest.agent.breakglass.receipts.PAGE", 3)
    glass = Glass(base)
    chain = glass.access.chain
    for _ in range(3):
        glass.access.take(a_grant())
    first, second = chain.page(0), chain.page(3)
    assert (len(first), len(second), chain.page(5)) == (3, 2, [])
    middle = check_chain(first, START, runtime_id=RUNTIME_ID)
    assert check_chain(second, middle, runtime_id=RUNTIME_ID) == chain.position
    monkeypatch.setattr("guest.agent.breakglass.receipts.PAGE_BYTES", 1)
    assert len(chain.page(0)) == 1
    assert [each["ticket"] for each in chain.page(0, first[2]["ticket"])] == [first[2]["ticket"]]


def test_time_goes_not_back_in_it_for_a_small_step(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glass = Glass(base)
    last, grant = glass.receipts()[-1]["at"], a_grant()
    monkeypatch.setattr("guest.agent.breakglass.receipts.time.time", lambda: last - 60.0)
    glass.access.take(grant)
    assert glass.receipts()[-1]["at"] == last


def test_a_clock_ahead_for_a_moment_is_not_followed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each later receipt says its time for good, and an honest access looks like one after its end."""
    glass = Glass(base)
    now, ended = glass.receipts()[-1]["at"], glass.access.take(a_grant()).ticket.ticket
    monkeypatch.setattr("guest.agent.breakglass.receipts.time.time", lambda: now + 365 * 86400.0)
    glass.access.end(ended, "portal")
    monkeypatch.setattr("guest.agent.breakglass.receipts.time.time", lambda: float(now))
    opened = glass.access.take(a_grant())
    glass.session(opened)
    course = Course(opened.ticket, opened.judged.people, ("Ann",), "")
    for receipt in map(Receipt.parse, glass.receipts()[-2:]):
        course.follow(receipt)
        assert receipt.at == now


def test_a_changed_last_receipt_keeps_the_agent_from_starting(base: Path) -> None:
    """What would follow it would vouch for it."""
    changing = sqlite3.connect(base / FILE)
    changing.execute(_CHANGE)
    changing.commit()
    changing.close()
    with pytest.raises(BreakGlassFileError):
        Glass(base)
