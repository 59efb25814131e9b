"""Who approves: an approver set as people read it, beside what is known of its keys and their holders today.

Reads only. A set is what its signatures say; what has changed since then is shown beside it, not taken out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from django.contrib.auth.models import User
from django.db.models import QuerySet

from breakglass.models import PERSON, ApproverSetVersion, Passkey, SetProposal
from protocol.approvers import ApproverSet


@dataclass(frozen=True)
class SeatKey:
    """One key of a person in a set."""

    fingerprint: str
    passkey: Passkey | None
    """None: no key like this is registered here."""

    @property
    def trouble(self) -> str:
        """Why the portal takes no signature of it any more, in words; empty: it does."""
        passkey = self.passkey
        if passkey is None:
            return "not registered here"
        table = [
            (passkey.cloned_at is not None, "there may be a copy"),
            (passkey.retired_at is not None, "retired"),
            (not (passkey.user.is_active and passkey.user.is_staff), "its holder has left"),
        ]
        return next((words for holds, words in table if holds), "")


@dataclass
class Seat:
    """One person in a set, with their keys."""

    person: str
    name: str
    """As the set names them."""
    keys: list[SeatKey] = field(default_factory=list)

    @property
    def able(self) -> bool:
        """Whether any of the keys still signs here."""
        return any(not key.trouble for key in self.keys)


def read_set(stored: ApproverSetVersion | None) -> ApproverSet | None:
    """A stored set, read. Raises ApproversError: what cannot be read must not be taken for none."""
    return ApproverSet.parse(stored.document) if stored else None


def names_person(approvers: ApproverSet | None, user_id: int) -> bool:
    """Whether the set names this person, by whatever key."""
    person = PERSON % user_id
    return approvers is not None and any(each.person == person for each in approvers.approvers.values())


def usable_passkeys(user: User | None = None) -> QuerySet[Passkey]:
    """Passkeys that may sign: not retired, not cloned, of active staff; all, or one person's."""
    found = Passkey.objects.filter(
        retired_at=None, cloned_at=None, user__is_active=True, user__is_staff=True
    ).select_related("user")
    return found if user is None else found.filter(user=user)


def open_proposals() -> QuerySet[SetProposal]:
    """Sets that wait for signatures, the newest first."""
    return SetProposal.objects.filter(state=SetProposal.State.OPEN).select_related("by")


def seats(approvers: ApproverSet) -> list[Seat]:
    """The people of a set, in its order. One query."""
    found = Passkey.objects.filter(fingerprint__in=list(approvers.approvers)).select_related("user")
    return seats_of(approvers, {passkey.fingerprint: passkey for passkey in found})


def seats_of(approvers: ApproverSet | None, known: Mapping[str, Passkey]) -> list[Seat]:
    """The same, with the passkeys that the caller knows of, by fingerprint."""
    people: dict[str, Seat] = {}
    read = approvers.approvers.items() if approvers else ()
    entries = approvers.document["approvers"] if approvers else ()
    for (fingerprint, approver), entry in zip(read, entries, strict=True):
        seat = people.setdefault(approver.person, Seat(approver.person, entry["name"]))
        seat.keys.append(SeatKey(fingerprint, known.get(fingerprint)))
    return list(people.values())
