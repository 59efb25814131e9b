"""Grants in the guest: when one opens, what ends it, and that its end is for good."""

from pathlib import Path
from typing import Any

import pytest

from guest.agent.breakglass.marks import FOLDER
from guest.agent.breakglass.refusals import BreakGlassRefused
from guest.agent.breakglass.store import FILE, BreakGlassFileError, Store
from guest.agent.breakglass.terms import TERMS_FILE
from guest.agent.members import MembersFileError
from protocol.persons import Purpose
from tests.guest.glass import Clock, Glass
from tests.protocol.people import MEMBER, ORIGIN, OWNER, RECOVERY, STRANGER, entry, keyring, naming
from tests.protocol.test_approvers import ANN, BEN, CAT, approver, the_set
from tests.protocol.ticketing import RAE, TENANT_ID, a_grant, a_set, a_ticket, approved

LONG = 1800


@pytest.fixture
def glass(tmp_path: Path) -> Glass:
    return Glass(tmp_path)


def code(glass: Glass, grant: Any) -> str:
    """With which the grant is refused, or ``open``."""
    try:
        glass.access.take(grant)
    except BreakGlassRefused as refusal:
        return refusal.code
    return "open"


def owners(document: Any, by: Any = OWNER) -> dict[str, Any]:
    """A grant that an owner has signed too."""
    return a_grant(document, owner=by.sign(Purpose.OWNER_APPROVAL, document))


def test_a_grant_opens_once(glass: Glass) -> None:
    """Sent again it is the same access: the same end, no second receipt, no second life."""
    grant = a_grant()
    first = glass.access.take(grant)
    assert first.until == glass.clock.wall + LONG
    glass.clock.go(100)
    assert glass.access.take(grant) is first
    (receipt,) = glass.receipts()
    assert (receipt["event"], receipt["ticket"], receipt["digest"]) == (
        "granted",
        first.ticket.ticket,
        first.ticket.digest,
    )
    assert receipt["detail"]["people"] == ["ann"]
    glass.access.end(first.ticket.ticket, "portal")
    assert code(glass, grant) == "ended"
    assert glass.restarted().refusal(first.ticket.ticket) == "ended"


def test_what_is_not_believed(glass: Glass) -> None:
    """The judge of protocol decides; a refusal is noted with the ticket that it is about."""
    ticket = a_ticket()
    assert code(glass, a_grant(ticket, approvals=[])) == "no_quorum"
    assert code(glass, a_grant(ticket, by=[RAE])) == "bad_signature"
    at_the_guest = approved(ticket, ANN, origin=ORIGIN)
    assert code(glass, a_grant(ticket, approvals=[at_the_guest])) == "bad_signature"
    assert code(glass, {"grant": 1}) == "malformed"
    assert glass.refusal(ticket["ticket"]) == "no_grant"
    noted = [(each["event"], each["ticket"], each["detail"]["code"]) for each in glass.receipts()]
    assert noted == [
        ("refused", ticket["ticket"], each) for each in ("no_quorum", "bad_signature", "bad_signature")
    ]


def test_another_revision_of_an_open_ticket(glass: Glass) -> None:
    """An edited ticket is no way to lengthen an access, neither while it is open nor after."""
    ticket = a_ticket()
    assert code(glass, a_grant(ticket)) == "open"
    longer = {**ticket, "revision": 2, "seconds": 3600}
    assert code(glass, a_grant(longer)) == "another_revision"
    glass.access.end(ticket["ticket"], "done")
    assert code(glass, a_grant(longer)) == "ended"


def test_an_end_before_the_beginning(glass: Glass) -> None:
    """A ticket that was ended before its grant ever came does not open, in this life or the next."""
    grant = a_grant()
    name = grant["document"]["ticket"]
    assert glass.access.end(name, "portal") == (False, 0)
    assert code(glass, grant) == "ended"
    assert code(glass.restarted("second boot"), grant) == "ended"


@pytest.mark.parametrize("wall", [0, -3600, LONG])
def test_its_time_ends_by_either_clock(glass: Glass, wall: int) -> None:
    """A wall clock that stands still or was set back lengthens nothing; one set forward shortens it."""
    name = glass.access.take(a_grant()).ticket.ticket
    glass.clock.go(LONG - 1)
    assert glass.refusal(name) == "open"
    glass.clock.wall += wall - 1
    glass.clock.monotonic += 0 if wall == LONG else 1
    assert glass.refusal(name) == "expired"
    glass.access.look()
    assert glass.ends() == ["expired"]
    glass.clock.wall -= 7200
    glass.clock.monotonic -= 7200
    assert glass.refusal(name) == "ended"


def test_a_clock_in_doubt(glass: Glass) -> None:
    """Behind what the portal has told, or before the access began: closed, but not over."""
    name = glass.access.take(a_grant()).ticket.ticket
    glass.clock.right = False
    assert glass.refusal(name) == "clock_wrong"
    glass.access.look()
    glass.clock.right = True
    assert glass.refusal(name) == "open"
    glass.clock.wall -= 61
    assert glass.refusal(name) == "clock_wrong"


def test_no_later_than_its_waiting_time_and_its_length(glass: Glass) -> None:
    """The ticket's own last moment holds whatever the guest's clock said when it came."""
    ticket = a_ticket()
    glass.clock.wall = ticket["wait_until"] - 1
    opened = glass.access.take(a_grant(ticket))
    assert opened.until == ticket["wait_until"] - 1 + LONG
    other = a_ticket()
    glass.clock.wall = other["wait_until"]
    assert code(glass, a_grant(other)) == "too_late"


def test_a_new_start_of_the_agent(glass: Glass) -> None:
    """The access goes on to its end and not beyond; the operator has to come again."""
    opened = glass.access.take(a_grant())
    name, session = opened.ticket.ticket, glass.session(opened)
    glass.clock.go(1000)
    again = glass.restarted()
    assert again.refusal(name) == "open"
    with pytest.raises(BreakGlassRefused, match="begin a session"):
        again.access.session(name, session)
    again.clock.monotonic += LONG - 1000
    assert again.refusal(name) == "expired"


def test_a_new_start_of_the_machine(glass: Glass) -> None:
    """Another monotonic clock: the wall clock says how much is left, and cannot be set back afterwards."""
    opened = glass.access.take(a_grant())
    glass.clock.wall, glass.clock.monotonic = glass.clock.wall + 1000, 5.0
    again = glass.restarted("second boot")
    assert again.access.seconds_left(again.access.standing(opened.ticket.ticket)) == LONG - 1000
    again.clock.monotonic += LONG - 1000
    assert again.refusal(opened.ticket.ticket) == "expired"


def test_another_set_ends_it(glass: Glass) -> None:
    """At once and for good, though the same people may be in it."""
    name = glass.access.take(a_grant()).ticket.ticket
    current = glass.recovery.approvers
    assert current is not None
    new = the_set(approver(ANN, "ann"), approver(BEN, "ben"), version=2, previous=current.hash)
    glass.recovery.take_approvers(new, [each.sign(Purpose.APPROVERS, new) for each in (ANN, CAT)])
    assert glass.refusal(name) == "wrong_set"  # even before anybody says that it has changed
    glass.access.changed()
    assert (glass.refusal(name), glass.ends()) == ("ended", ["wrong_set"])


def test_terms_end_it(glass: Glass) -> None:
    """Closed for its kind, or wanting an owner who has not signed. Looser terms do not bring it back."""
    first, second = glass.access.take(a_grant()), glass.access.take(a_grant())
    glass.take_terms(version=1, emergency="closed")
    assert glass.refusal(first.ticket.ticket) == "open"
    glass.access.end(second.ticket.ticket, "done")
    glass.take_terms(version=2, ordinary="owner")
    assert glass.refusal(first.ticket.ticket) == "ended"
    glass.take_terms(version=3)
    assert (glass.refusal(first.ticket.ticket), glass.ends()) == ("ended", ["done", "owner_missing"])
    glass.take_terms(version=4, ordinary="closed")
    assert code(glass, a_grant()) == "closed"


def test_an_owners_signature(glass: Glass) -> None:
    """Where the terms want one it is an owner's of the keyring in force, as long as the access lasts."""
    glass.take_terms(ordinary="owner")
    assert code(glass, a_grant()) == "owner_missing"
    assert code(glass, owners(a_ticket(), MEMBER)) == "bad_signature"
    name = glass.access.take(owners(a_ticket())).ticket.ticket
    assert glass.restarted().refusal(name) == "open"
    assert glass.members.keyring is not None
    other = keyring(TENANT_ID, entry(STRANGER.key), version=2, previous=glass.members.keyring.hash)
    again = glass.restarted()
    again.members.take_keyring(other, RECOVERY.sign(Purpose.KEYRING, other))
    again.access.changed()
    assert again.ends() == ["bad_signature"]


def test_terms_only_rise_and_are_an_owners(glass: Glass) -> None:
    glass.take_terms(version=2, ordinary="closed")
    for by, changed, expected in (
        (OWNER, {"version": 1}, "rolled_back"),
        (OWNER, {"version": 2}, "forked"),
        (MEMBER, {"version": 3}, "not_an_owner"),
        (OWNER, {"version": 3, "tenant_id": "another"}, "wrong_tenant"),
        (OWNER, {"version": 3, "ordinary": "ajar"}, "malformed"),
    ):
        with pytest.raises(BreakGlassRefused) as caught:
            glass.take_terms(by, **changed)
        assert caught.value.code == expected
    told = glass.restarted().access.statement()["terms"]
    assert (told["version"], told["ordinary"]) == (2, "closed")


def test_terms_that_ended_it_while_the_agent_was_away(glass: Glass) -> None:
    """What a grant rests on is asked again at each start."""
    name = glass.access.take(a_grant()).ticket.ticket
    document = {"version": 1, "tenant_id": TENANT_ID, "ordinary": "closed", "emergency": "closed"}
    glass.terms.take(document, OWNER.sign(Purpose.TERMS, document))
    again = glass.restarted()
    assert again.refusal(name) == "ended"
    again.access.look()
    assert (again.refusal(name), again.ends()) == ("ended", ["closed"])


def test_suspension_ends_it(glass: Glass) -> None:
    """For good: who resumes the runtime does not resume an operator's access."""
    name = glass.access.take(a_grant()).ticket.ticket
    glass.members.suspend(True)
    assert glass.refusal(name) == "suspended"
    assert code(glass, a_grant()) == "suspended"
    glass.access.changed()
    glass.members.suspend(False)
    assert (glass.refusal(name), glass.ends()) == ("ended", ["suspended"])


def test_the_same_end_twice(glass: Glass) -> None:
    """One receipt, whoever was first."""
    name = glass.access.take(a_grant()).ticket.ticket
    assert glass.access.end(name, "owner", by="a key") == (True, 0)
    assert glass.access.end(name, "portal") == (False, 0)
    assert glass.ends() == ["owner"]


def test_an_end_that_the_disk_does_not_take(glass: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over at once all the same, and written down when the disk takes it again."""
    name = glass.access.take(a_grant()).ticket.ticket
    with monkeypatch.context() as patch:
        patch.setattr(glass.store, "add_end", _full)
        with pytest.raises(OSError, match="full"):
            glass.access.end(name, "portal")
        assert glass.refusal(name) == "no_grant"
        with pytest.raises(OSError, match="full"):
            glass.access.take(a_grant())
    glass.access.look()
    assert (glass.refusal(name), glass.ends()) == ("ended", ["portal"])


def test_a_grant_that_the_disk_does_not_take(glass: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its receipt and itself are one: without the one there is not the other."""
    grant = a_grant()
    with monkeypatch.context() as patch:
        patch.setattr(glass.store, "add_receipt", _full)
        with pytest.raises(OSError, match="full"):
            glass.access.take(grant)
    assert glass.refusal(grant["document"]["ticket"]) == "no_grant"
    again = glass.restarted()
    assert (again.refusal(grant["document"]["ticket"]), again.events()) == ("no_grant", [])
    assert code(again, grant) == "open"


def test_an_end_on_a_full_disk_survives_a_restart(glass: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row can be added, but the end's room was set aside when the grant was opened."""
    opened = glass.access.take(a_grant())
    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_end", _full)
        with pytest.raises(OSError, match="full"):
            glass.access.end(opened.ticket.ticket, "owner", by="a-key")
        glass = glass.restarted("second boot")
        assert (glass.refusal(opened.ticket.ticket), glass.access.grants.tickets()) == ("no_grant", [])
    glass.access.look()
    assert glass.receipts()[-1]["detail"] == {"code": "owner", "by": "a-key", "streams": 0}
    assert glass.restarted().refusal(opened.ticket.ticket) == "ended"
    assert list((glass.folder / FOLDER).iterdir()) == []


def test_no_grant_without_room_for_its_end(glass: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("guest.agent.breakglass.marks.write_atomically", _full)
        with pytest.raises(OSError, match="full"):
            glass.access.take(grant := a_grant())
    assert (glass.access.grants.tickets(), glass.receipts()) == ([], [])
    assert glass.access.take(grant).ticket.ticket in glass.access.grants.tickets()


@pytest.mark.parametrize("text", [None, b"", b"ope", b"open", bytes(4096), b"{}", b'{"code":1}', b"\xff"])
def test_a_grant_whose_mark_is_damaged_is_over(glass: Glass, text: bytes | None) -> None:
    opened = glass.access.take(a_grant())
    (mark,) = (glass.folder / FOLDER).iterdir()
    mark.unlink() if text is None else mark.write_bytes(text)
    glass = glass.restarted()
    assert (glass.refusal(opened.ticket.ticket), glass.ends()) == ("ended", ["mark_lost"])


def test_a_mark_without_its_grant_is_swept(glass: Glass) -> None:
    """A stop between the two: nothing was opened."""
    kept = glass.access.take(a_grant()).ticket.ticket
    marks = glass.folder / FOLDER
    (marks / "stray").write_bytes(b"open")
    glass = glass.restarted()
    assert ([each.name for each in marks.iterdir()], glass.refusal(kept)) == ([kept], "open")


def test_a_restart_with_a_clock_behind_lengthens_nothing(glass: Glass) -> None:
    """By the monotonic clock no grant has more than its ticket's seconds."""
    opened = glass.access.take(a_grant())
    glass.clock.wall -= 86400
    glass = glass.restarted("second boot")
    (again,) = glass.access.grants.opened()
    assert again.deadline - glass.clock.monotonic == opened.ticket.seconds


def _full(*_given: Any) -> Any:
    raise OSError("full")


def test_only_so_many(glass: Glass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guest.agent.breakglass.grants.MAX_OPEN", 2)
    assert [code(glass, a_grant()) for _ in range(3)] == ["open", "open", "too_many"]


def test_a_first_set_of_any_version(tmp_path: Path) -> None:
    """The owner signs the one in force, whatever its number; the next follows by a quorum."""
    glass = Glass(tmp_path)
    (tmp_path / "approvers.json").unlink()
    glass.recovery.approvers = None
    late = a_set(version=7, previous="0" * 64)
    assert glass.recovery.take_approvers(late, [naming(OWNER, late, TENANT_ID)]).version == 7
    assert code(glass, a_grant(a_ticket(set=late))) == "open"
    assert code(glass, a_grant()) == "wrong_set"


@pytest.mark.parametrize("name", [FILE, TERMS_FILE])
def test_damaged_files_keep_the_agent_from_starting(glass: Glass, name: str) -> None:
    """A fresh one in their place would forget what has ended, or what an owner closed."""
    glass.take_terms(ordinary="closed")
    glass.access.close()
    for beside in glass.folder.glob(f"{FILE}-*"):
        beside.unlink()
    (glass.folder / name).write_bytes(b"something else entirely")
    with pytest.raises((BreakGlassFileError, MembersFileError)):
        Glass(glass.folder, Clock())


def test_the_portal_signs_at_its_own_origin(glass: Glass) -> None:
    """The request too is believed from the portal's page only."""
    ticket = a_ticket()
    at_the_guest = RAE.sign(Purpose.ACCESS_REQUEST, ticket, origin=ORIGIN)
    assert code(glass, a_grant(ticket, request=at_the_guest)) == "bad_request_signature"
