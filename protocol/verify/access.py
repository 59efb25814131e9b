"""Exports of break-glass: what a guest's receipts say of staff's access, and who let them in.

JSON Lines. The first is the header ``{"format":"portal break-glass export v1","tenant":…,"runtime":…,
"rp_id":…,"origins":[…],"after":{"seq":N,"hash":…}}``. Each other line has one member:

- ``set``: an approver set's document; ``keyring``: that of a keyring whose owner has signed a ticket;
- ``grant``: a ticket with its signatures, as the guest took it; its set stands before it. Who approved, and
  which owner, must be what the guest's own ``granted`` receipt says;
- ``receipt``: the guest's, in the chain's order, from ``after`` on; its ticket stands before it;
- ``head``: the guest's signed note of the last one;
- ``entry``: a receipt of the portal's log, as text. It names the guest's key, or a head of the guest's chain.

Two keys are believed: the log's, and the guest's, which an entry of the log or the reader names.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.access_receipts import Position, check_chain, head_key, open_head
from protocol.access_receipts import Receipt as Deed
from protocol.access_receipts import ReceiptError as DeedError
from protocol.approvers import ApproversError, ApproverSet
from protocol.keyrings import Keyring, KeyringError
from protocol.notes import Note, NoteError, VerifierKey
from protocol.persons import Site
from protocol.receipts import Receipt, ReceiptError, check_in
from protocol.tickets import Grant, Ticket, TicketRefused, check_approval, check_owner, check_request, needed
from protocol.verify.deeds import Course, words
from protocol.verify.lines import MAX_LINE_BYTES, member, object_of
from protocol.verify.outcome import Keys, VerificationError, Verified

FORMAT = "portal break-glass export v1"
HEADS = "break_glass.receipts"
"""The action of the entries that hold a head of the guest's chain."""
KEYS = "witness.registered"
"""The action of the entries that hold the guest's key."""
MAX_LINES = 1_000_000


@dataclass(frozen=True)
class Access:
    """What an export has proved."""

    tenant_id: str
    runtime_id: str
    first: int
    last: int
    """Numbers of the receipts in it; ``last`` is smaller than ``first`` if there are none."""
    deeds: tuple[str, ...]
    """A line for each ticket and receipt. Escaped, so that a terminal obeys nothing of it."""
    anchored: int
    """The last receipt whose chain an entry of the log holds."""
    log: Verified
    note: str
    """The checkpoint of ``log``, with its signatures."""


def verify_access(path: Path, keys: Keys, guest: VerifierKey | None = None) -> Access:
    """Check a whole export.

    Args:
        guest: the guest's witness key, if the reader knows it from elsewhere than the log.

    Raises:
        VerificationError: it does not verify.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        lines = _lines(file)
        found = _Found(_header(next(lines, {})), keys)
        for number, line in enumerate(lines, 2):
            found.take(line, f"line {number}")
    return found.judged(guest)


def _lines(file: Any) -> Iterator[dict[str, Any]]:
    for number in range(1, MAX_LINES + 2):
        line = file.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        where = f"line {number}"
        if number > MAX_LINES or len(line) > MAX_LINE_BYTES:
            raise VerificationError(f"{where}: the file or the line is too long")
        if not line.endswith(b"\n"):
            raise VerificationError(f"{where} has no end: the file is cut short")
        yield object_of(line, where)


@dataclass(frozen=True)
class Header:
    """Whose export it is, and what it follows."""

    tenant_id: str
    runtime_id: str
    site: Site
    """Where tickets are signed: the portal's own page."""
    after: Position


def _header(line: dict[str, Any]) -> Header:
    if line.get("format") != FORMAT:
        raise VerificationError(f"line 1: this is no {FORMAT}")
    texts = [member(line, name, str, "line 1") for name in ("tenant", "runtime", "rp_id")]
    origins = frozenset(map(str, member(line, "origins", list, "line 1")))
    after = member(line, "after", dict, "line 1")
    position = member(after, "seq", int, "line 1"), member(after, "hash", str, "line 1")
    return Header(texts[0], texts[1], Site(texts[2], origins), position)


@dataclass
class _Found:
    """An export as it is read."""

    header: Header
    keys: Keys
    sets: dict[str, ApproverSet] = field(default_factory=dict)
    keyrings: list[Keyring] = field(default_factory=list)
    courses: dict[str, Course] = field(default_factory=dict)
    """By the ticket's digest."""
    deeds: list[str] = field(default_factory=list)
    position: Position | None = None
    hashes: dict[int, str] = field(default_factory=dict)
    note: str = ""
    guests: set[VerifierKey] = field(default_factory=set)
    """Keys that the log names as this guest's."""
    heads: dict[int, str] = field(default_factory=dict)
    """Heads of the chain that the log holds."""
    log: Verified | None = None
    checkpoint: str = ""

    def take(self, line: Mapping[str, Any], where: str) -> None:
        """The next line. Raises VerificationError."""
        table: dict[str, tuple[type, Callable[[Any], None]]] = {
            "set": (dict, self._set),
            "keyring": (dict, self._keyring),
            "grant": (dict, self._grant),
            "receipt": (dict, self._deed),
            "head": (str, self._head),
            "entry": (str, self._entry),
        }
        if len(line) != 1 or next(iter(line)) not in table:
            raise VerificationError(f"{where}: one member of {', '.join(table)}")
        name, value = next(iter(line.items()))
        kind, take = table[name]
        if not isinstance(value, kind):
            raise VerificationError(f"{where}: {name} is of the wrong kind")
        try:
            take(value)
        except (DeedError, ReceiptError, TicketRefused, ApproversError, KeyringError, NoteError) as error:
            raise VerificationError(f"{where}: {error}") from None

    def judged(self, guest: VerifierKey | None) -> Access:
        """The end of the file: the guest's word, and the log's. Raises VerificationError."""
        last = self.position or self.header.after
        self._check_guest(guest, last)
        if self.log is None:
            raise VerificationError("no entry of the log is in the file: download it anew in a minute")
        held = {seq: found for seq, found in self.heads.items() if seq in self.hashes}
        for seq, found in held.items():
            if self.hashes[seq] != found:
                raise VerificationError(f"the log holds another receipt {seq} than the file")
        self.deeds[:0] = [line for course in self.courses.values() for line in course.words()]
        return Access(
            self.header.tenant_id,
            self.header.runtime_id,
            self.header.after[0] + 1,
            last[0],
            tuple(self.deeds),
            max(held, default=0),
            self.log,
            self.checkpoint,
        )

    def _check_guest(self, guest: VerifierKey | None, last: Position) -> None:
        try:
            known = {head_key(self.header.runtime_id, guest)} if guest else self.guests
            if not known:
                raise VerificationError("no entry in the file names this machine's key: give --guest")
            heads = {open_head(self.note, key) for key in known if _signed(self.note, key)}
        except (DeedError, NoteError) as error:
            raise VerificationError(f"the machine's word: {error}") from None
        if heads != {last}:
            raise VerificationError(f"the machine has not signed that its receipts end with {last[0]}")

    def _set(self, document: dict[str, Any]) -> None:
        found = ApproverSet.parse(document)
        self.sets[found.hash] = found

    def _keyring(self, document: dict[str, Any]) -> None:
        found = Keyring.parse(document)
        if found.tenant_id != self.header.tenant_id:
            raise VerificationError("a keyring of another tenant")
        self.keyrings.append(found)

    def _grant(self, document: dict[str, Any]) -> None:
        """As the guest has judged it, but for the time, which the receipts tell."""
        grant = Grant.parse(document)
        ticket = Ticket.parse(grant.document)
        if (ticket.tenant_id, ticket.runtime_id) != (self.header.tenant_id, self.header.runtime_id):
            raise VerificationError("a ticket of another tenant or machine")
        approvers = self.sets.get(ticket.approvers_hash)
        if approvers is None:
            raise VerificationError(f"the approver set of ticket {ticket.ticket} does not stand before it")
        site = self.header.site
        check_request(ticket, grant.request, site)
        people = frozenset(check_approval(ticket, approvers, one, site) for one in grant.approvals)
        if len(people) < needed(ticket, approvers):
            raise VerificationError(f"ticket {ticket.ticket}: fewer people have approved than it needs")
        names = sorted({one["name"] for one in approvers.document["approvers"] if one["person"] in people})
        owner = self._owner(ticket, grant)
        self.courses[ticket.digest] = Course(ticket, people, tuple(names), owner)

    def _owner(self, ticket: Ticket, grant: Grant) -> str:
        """The fingerprint of the owner who signed, too; empty if none did."""
        if grant.owner is None:
            return ""
        problem: Exception | None = None
        for keyring in self.keyrings:
            try:
                return check_owner(ticket, keyring, grant.owner, self.header.site)
            except TicketRefused as error:
                problem = error
        raise VerificationError(f"ticket {ticket.ticket}: {problem or 'no keyring stands before it'}")

    def _deed(self, document: dict[str, Any]) -> None:
        deed = Deed.parse(document)
        self.position = check_chain(
            [deed], self.position or self.header.after, runtime_id=self.header.runtime_id
        )
        self.hashes[deed.seq] = self.position[1]
        course = self.courses.get(deed.digest)
        if course is None and deed.event not in {"refused", "ended"}:
            raise VerificationError(f"receipt {deed.seq}: its ticket does not stand before it")
        if course is not None:
            course.follow(deed)
        self.deeds.append(words(deed))

    def _head(self, note: str) -> None:
        self.note = note

    def _entry(self, text: str) -> None:
        receipt = Receipt.parse(text)
        checkpoint, cosigned = self.keys.opened(receipt.proof.note)
        event = check_in(receipt, checkpoint)
        if self.log is None or checkpoint.size > self.log.checkpoint.size:
            self.log, self.checkpoint = Verified(1, checkpoint, cosigned), receipt.proof.note
        if event.get("tenant") != self.header.tenant_id:
            raise VerificationError("an entry of another tenant")
        if event.get("action") == KEYS:
            vkey = member(_dict(event, "data"), "vkey", str, "an entry")
            self.guests.add(head_key(self.header.runtime_id, vkey))
        elif event.get("action") == HEADS and _dict(event, "target").get("id") == self.header.runtime_id:
            data = _dict(event, "data")
            self.heads[member(data, "to", int, "an entry")] = member(data, "head", str, "an entry")


def _dict(event: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = member(event, name, dict, "an entry")
    return found


def _signed(note: str, key: VerifierKey) -> bool:
    return bool(Note.parse(note).of(key))
