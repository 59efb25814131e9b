"""Who approves: the set in force, as it was signed, and the passkeys of staff. Reads only."""

from django.contrib.auth.models import User
from django.db.models import QuerySet

from breakglass.models import PERSON, ApproverSetVersion, Passkey
from protocol.approvers import ApproverSet


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
