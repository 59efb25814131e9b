"""Break-glass from the command line: what is shown was checked here, and what is signed is what was shown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.approvers import ApproverSet, naming_document
from protocol.persons import Purpose, verify
from tests.client.break_glass_fake import TICKET
from tests.client.conftest import Person
from tests.client.fake import Fake
from tests.protocol.people import OWNER, Passkey, entry, keyring


def asked(person: Person, command: str, *words: str) -> list[str]:
    return ["break-glass", command, "acme", TICKET, *words]


def test_the_list(fake: Fake, owner: Person) -> None:
    told = owner.ok("break-glass", "list", "acme")
    assert TICKET in told
    assert "Rita" in told


def test_a_ticket_with_its_signatures(fake: Fake, owner: Person) -> None:
    """Who, why, which paths, who approved; and nothing of it that a terminal would obey."""
    told = owner.ok(*asked(owner, "show"))
    for words in ("Rita", "nightly report", "reports", "Ann (signatures checked)", "must sign, too"):
        assert words in told
    assert "\x1b" not in told


def test_an_owner_signs_what_is_shown(fake: Fake, owner: Person) -> None:
    """With the device key, after a yes; the portal gets the signature of this very ticket."""
    assert "Nothing was changed." in owner.refused(*asked(owner, "approve"), typed="n\n")
    assert fake.break_glass.taken == []
    assert "approved now" in owner.ok(*asked(owner, "approve", "--yes"))
    (given,) = fake.break_glass.taken
    assert given["revision"] == 1
    key = owner.device.key
    verify(key, given["signature"], Purpose.OWNER_APPROVAL, fake.break_glass.document)


def test_a_member_signs_nothing(fake: Fake, owner: Person) -> None:
    """The keyring says who owns; the portal's word does not."""
    document = keyring(fake.tenant_id, entry(OWNER.key), entry(owner.device.key, role="member"))
    (owner.folder / "pins.json").unlink()
    fake.show(document, OWNER, guest=False)
    for words in (asked(owner, "approve", "--yes"), ["break-glass", "terms", "acme", "--ordinary", "closed"]):
        assert "Only an owner in the keyring" in owner.refused(*words)
    assert fake.break_glass.taken == []


def test_anybody_of_the_tenants_asks_for_an_end(fake: Fake, owner: Person) -> None:
    """The portal decides who may; the words go along."""
    assert "revoked" in owner.ok(*asked(owner, "revoke", "--why", "Enough."))
    assert fake.break_glass.taken == [{"words": "Enough."}]


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another reason": lambda told: told["revisions"][0]["document"].update(
        reason="Something else altogether."
    ),
    "a request that somebody else signed": lambda told: told["revisions"][0].update(
        signature=Passkey().sign(Purpose.ACCESS_REQUEST, told["revisions"][0]["document"])
    ),
    "another digest": lambda told: told["revisions"][0].update(digest="0" * 64),
    "another tenant": lambda told: told["revisions"][0]["document"].update(tenant_id=TICKET),
    "another set": lambda told: told["approvers"].update(threshold=2),
    "an approval of nobody": lambda told: told["approvals"].append(
        Passkey().sign(Purpose.APPROVAL, told["revisions"][0]["document"])
    ),
    "an owner's signature that is none": lambda told: told.update(owner=told["approvals"][0]),
    "no revision": lambda told: told.update(revisions=[]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_portal_that_lies_about_a_ticket(fake: Fake, owner: Person, lie: str) -> None:
    """Nothing is shown as signed that was not, and nothing is signed upon it."""
    told = fake.break_glass.ticket()
    LIES[lie](told)
    fake.bend("GET", f"/api/v1/tenants/acme/break-glass/{TICKET}/", **told)
    for command in ("show", "approve"):
        owner.refused(*asked(owner, command, *(["--yes"] if command == "approve" else [])))
    assert fake.break_glass.taken == []


def test_the_receipts_are_checked(fake: Fake, owner: Person, tmp_path: Path) -> None:
    """Kept in a file that others cannot read; each path is told."""
    kept = tmp_path / "access.jsonl"
    told = owner.ok(*asked(owner, "receipts", str(kept)))
    assert "reports/a.txt" in told
    assert "Receipts 1 to 3" in told
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "exists already" in owner.refused(*asked(owner, "receipts", str(kept)))


def test_receipts_that_prove_nothing(fake: Fake, owner: Person, tmp_path: Path) -> None:
    """An access outside the ticket, or another log, is a warning; the file stays as evidence."""
    fake.break_glass.read = "secrets/b.txt"
    first = tmp_path / "first"
    told = owner.refused(*asked(owner, "receipts", str(first)))
    assert "WARNING" in told
    assert "does not reach that path" in told
    assert first.exists()


def test_receipts_of_another_log(fake: Fake, owner: Person, tmp_path: Path) -> None:
    """The device knows the log: one that it has not seen proves nothing."""
    owner.ok(*asked(owner, "receipts", str(tmp_path / "one")))
    fake.break_glass.log = type(fake.log)(fake.tenant_id)
    fake.break_glass.log.seed = b"\x09" * 32
    assert "WARNING" in owner.refused(*asked(owner, "receipts", str(tmp_path / "two")))


def test_naming_approvers(fake: Fake, owner: Person) -> None:
    """Only the very set whose hash was typed; the signature is over its hash, for this tenant."""
    found = ApproverSet.parse(fake.break_glass.set)
    assert found.hash in owner.ok("break-glass", "approvers", "acme")
    words = ["break-glass", "approvers", "acme", "--yes", "--name"]
    assert "Another set is in force" in owner.refused(*words, "0" * 64)
    assert "by an owner" in owner.ok(*words, found.hash)
    (given,) = fake.break_glass.taken
    verify(owner.device.key, given["signature"], Purpose.NAMING, naming_document(fake.tenant_id, found))


def test_a_set_under_another_hash(fake: Fake, owner: Person) -> None:
    told = fake.break_glass.approvers()
    told["current"]["document"]["threshold"] = 1
    told["current"]["hash"] = "0" * 64
    fake.bend("GET", "/api/v1/tenants/acme/break-glass/approvers/", **told)
    assert "Do not sign anything" in owner.refused("break-glass", "approvers", "acme")


def test_terms(fake: Fake, owner: Person) -> None:
    """Without options shown; with one the other stays as it is. Versions only rise."""
    assert owner.ok("break-glass", "terms", "acme").split() == [
        "ordinary",
        "approvers",
        "emergency",
        "approvers",
    ]
    words = ["break-glass", "terms", "acme", "--yes"]
    owner.ok(*words, "--ordinary", "owner")
    owner.ok(*words, "--emergency", "closed")
    first, second = fake.break_glass.taken
    assert (first["document"]["ordinary"], first["document"]["emergency"]) == ("owner", "approvers")
    expected = {"version": 2, "tenant_id": fake.tenant_id, "ordinary": "owner", "emergency": "closed"}
    assert second["document"] == expected
    verify(owner.device.key, second["signature"], Purpose.TERMS, second["document"])


def test_nothing_that_a_portal_sends_reaches_the_terminal_as_it_is(fake: Fake, owner: Person) -> None:
    listed = fake.break_glass.listed() | {"reason": "\x1b]0;evil\x07", "requester": "\x1b[31m"}
    fake.bend("GET", "/api/v1/tenants/acme/break-glass/", tickets=[listed])
    told = owner.ok("break-glass", "list", "acme")
    assert "\x1b" not in told
    assert "evil" in told
