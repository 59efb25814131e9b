"""Every write that people ask of a ticket. The guest checks all that matters of it again for itself."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import F, Q
from django.db.models.functions import Now

from audit.context import Actor
from audit.services import record
from breakglass import notices
from breakglass.clock import After
from breakglass.models import PERSON, Approval, OwnerApproval, Rejection, Revision, Ticket
from breakglass.refusals import TicketRefused
from breakglass.services.assertions import kept, one_deed
from breakglass.services.drafting import Checked, check, check_debt
from breakglass.services.endings import check_words, finish, told
from breakglass.services.passkeys import assertion_take
from breakglass.services.standings import digest_of, fresh_row, why_not, why_not_started
from breakglass.standing import Standing, portal_site, standing
from breakglass.transitions import (
    ACCESS_LASTS,
    IN_TIME,
    MACHINE_READY,
    State,
    hold,
    move,
    owner_agrees,
    quorum,
    requester_may,
    rests_on,
)
from protocol import tickets as form
from protocol.approvers import ApproversError, ApproverSet, signers
from protocol.persons import Purpose
from tenants.selectors import current_keyring, is_owner


@one_deed
def ticket_open(*, actor: Actor, document: Any, signature: Mapping[str, Any]) -> Ticket:
    """Ask for access. The same document and signature again answers the ticket that they made.

    Raises:
        TicketRefused: as :func:`breakglass.services.drafting.draft`; ``bad_request_signature``; ``cloned``.
    """
    _one_at_a_time(actor)
    if made := _repeated(actor, document, signature):
        return made
    checked = check(actor, document)
    _check_request(actor, checked, signature)
    ticket = Ticket.objects.create(
        pk=UUID(checked.ticket.ticket),
        tenant=checked.tenant,
        runtime=checked.runtime,
        requester_id=int(actor.id),
        kind=checked.ticket.kind,
        asked_at=_time(checked.ticket.asked_at),
        wait_until=_time(checked.ticket.wait_until),
        **_asked(checked),
    )
    _keep_revision(ticket, checked, signature)
    _record_asked("ticket.opened", actor, ticket, checked)
    notices.asked(ticket)
    return told(fresh_row(ticket))


@one_deed
def ticket_edit(*, actor: Actor, ticket: Ticket, document: Any, signature: Mapping[str, Any]) -> Ticket:
    """Ask for something else instead. Whatever was approved counts no more; the waiting time goes on.

    Raises:
        TicketRefused: as :func:`ticket_open`; ``edited``, ``started``, ``over`` or ``too_late``.
    """
    _one_at_a_time(actor)
    if not hold(ticket.pk, IN_TIME, Q(state__in=Ticket.WAITING)):
        raise why_not(ticket)
    fresh = fresh_row(ticket)
    checked = check(actor, document, fresh)
    _check_request(actor, checked, signature)
    taken = move(
        ticket.pk,
        State.PENDING,
        IN_TIME,
        Q(revision=checked.ticket.revision - 1),
        allowed=Ticket.WAITING,
        revision=F("revision") + 1,
        approved_at=None,
        **_asked(checked),
    )
    if not taken:
        raise why_not(fresh)
    changed = fresh_row(ticket)
    _keep_revision(changed, checked, signature)
    _record_asked("ticket.edited", actor, changed, checked)
    notices.asked(changed)
    return told(changed)


@one_deed
def ticket_approve(*, actor: Actor, ticket: Ticket, signature: Mapping[str, Any]) -> Ticket:
    """One approver's yes to the revision that ``ticket`` shows; with the last one needed it is approved.

    Raises:
        TicketRefused: ``not_your_key``, ``own_approval``, ``bad_signature``, ``cloned``, ``edited``,
            ``started``, ``over``, ``too_late``, ``wrong_set``, ``closed``, ``no_approvers``, ``malformed``.
    """
    held = hold(ticket.pk, IN_TIME, Q(state=State.PENDING, revision=ticket.revision))
    given = kept(signature)
    if Approval.objects.filter(ticket=ticket, revision=ticket.revision, signature=given).exists():
        return fresh_row(ticket)
    if not held:
        raise why_not(ticket)
    fresh = fresh_row(ticket)
    current = _standing_of(fresh)
    if str(fresh.requester_id) == actor.id:
        raise TicketRefused("own_approval", "You asked for this yourself. Somebody else must approve it.")
    passkey = assertion_take(actor=actor, purpose=Purpose.APPROVAL, document=fresh.document, signature=given)
    person = _check_approval(fresh, current.approvers, given)
    if person != passkey.person:
        raise TicketRefused("bad_signature", "The approver set gives this passkey to somebody else.")
    if Approval.objects.filter(ticket=fresh, revision=fresh.revision, person=person).exists():
        raise TicketRefused("approved_already", "You have approved this already. It waits for others.")
    Approval.objects.create(
        ticket=fresh, revision=fresh.revision, passkey=passkey, person=person, signature=given
    )
    _record("ticket.approval_given", actor, fresh, digest=digest_of(fresh), fingerprint=passkey.fingerprint)
    _approve_if_enough(actor, fresh, current)
    return fresh_row(ticket)


@one_deed
def ticket_owner_approve(*, actor: Actor, ticket: Ticket, signature: Mapping[str, Any]) -> Ticket:
    """The tenant's owner lets this revision in, where the terms ask for that. With any key of the keyring.

    Raises:
        TicketRefused: ``not_allowed``, ``bad_signature``, ``malformed``, and those about the ticket's state.
    """
    if actor.user is None or not is_owner(actor.user, ticket.tenant):
        raise TicketRefused("not_allowed", "Only an owner of the tenant signs this.")
    if not hold(ticket.pk, IN_TIME, Q(state__in=Ticket.WAITING, revision=ticket.revision)):
        raise why_not(ticket)
    fresh = fresh_row(ticket)
    # The machine compares with its own keyring; here the newest is known.
    fingerprint = form.check_owner(
        form.Ticket.parse(fresh.document), current_keyring(fresh.tenant), signature, portal_site()
    )
    if fresh.owner_approvals.filter(revision=fresh.revision).exists():
        return fresh
    OwnerApproval.objects.create(
        ticket=fresh,
        revision=fresh.revision,
        fingerprint=fingerprint,
        person=PERSON % actor.id,
        signature=_owners(signature),
    )
    _record("ticket.owner_approved", actor, fresh, digest=digest_of(fresh), fingerprint=fingerprint)
    _approve_if_enough(actor, fresh, _standing_of(fresh))
    return fresh_row(ticket)


@one_deed
def ticket_reject(*, actor: Actor, ticket: Ticket, signature: Mapping[str, Any], words: str = "") -> Ticket:
    """One approver's no, which ends the ticket. ``words`` are for the requester and the tenant.

    Raises:
        TicketRefused: as :func:`ticket_approve`.
    """
    words = check_words(words)
    held = hold(ticket.pk, IN_TIME, Q(state=State.PENDING, revision=ticket.revision))
    given = kept(signature)
    if Rejection.objects.filter(ticket=ticket, revision=ticket.revision, signature=given).exists():
        return fresh_row(ticket)
    if not held:
        raise why_not(ticket)
    fresh = fresh_row(ticket)
    current = _standing_of(fresh)
    document = form.rejection_document(form.Ticket.parse(fresh.document))
    passkey = assertion_take(actor=actor, purpose=Purpose.REJECTION, document=document, signature=given)
    person = _check_rejection(fresh, current.approvers, given)
    Rejection.objects.create(
        ticket=fresh, revision=fresh.revision, passkey=passkey, person=person, signature=given, words=words
    )
    if not finish(actor, fresh, State.REJECTED, "rejected", IN_TIME, words=words):
        raise why_not(fresh)
    return fresh_row(ticket)


@one_deed
def ticket_withdraw(*, actor: Actor, ticket: Ticket) -> Ticket:
    """The requester wants it no more. Raises TicketRefused: ``not_allowed``, ``started`` or ``over``."""
    _only_requester(actor, ticket)
    if not finish(actor, ticket, State.WITHDRAWN, "withdrawn"):
        raise why_not(ticket)
    return fresh_row(ticket)


@one_deed
def ticket_start(*, actor: Actor, ticket: Ticket) -> Ticket:
    """The requester begins: from now on access runs, once, for the time that was asked.

    One statement asks again for all that the approval rested on: time, set, terms, quorum and the requester.

    Raises:
        TicketRefused: ``not_allowed``, ``not_approved``, ``started``, ``over``, ``too_late``, ``edited``,
            ``wrong_set``, ``closed``, ``owner_missing``, ``no_quorum``, ``no_approvers``, ``no_machine`` or
            ``review_due``.
    """
    _only_requester(actor, ticket)
    # No emergency of theirs begins meanwhile: with one, nothing else does.
    _one_at_a_time(actor)
    if not hold(ticket.pk, IN_TIME, Q(state=State.APPROVED, revision=ticket.revision)):
        raise why_not(ticket)
    check_debt(actor)
    fresh = fresh_row(ticket)
    current = _standing_of(fresh)
    taken = move(
        ticket.pk,
        State.ACTIVE,
        IN_TIME,
        rests_on(current),
        quorum(current),
        owner_agrees(current, fresh.kind),
        requester_may(fresh.tenant),
        MACHINE_READY,
        Q(revision=fresh.revision),
        started_at=Now(),
        access_until=After("seconds"),
        needs_owner=current.mode(fresh.kind) == "owner",
    )
    if not taken:
        raise why_not_started(fresh, current)
    begun = fresh_row(ticket)
    _record("ticket.started", actor, begun, digest=digest_of(begun), seconds=begun.seconds)
    notices.started(begun)
    return told(begun)


@one_deed
def ticket_end(*, actor: Actor, ticket: Ticket) -> Ticket:
    """«I'm done». Raises TicketRefused: ``not_allowed``, ``not_started`` or ``over``."""
    _only_requester(actor, ticket)
    if not finish(actor, ticket, State.ENDED, "done", ACCESS_LASTS):
        raise why_not(ticket)
    return fresh_row(ticket)


def _approve_if_enough(actor: Actor, ticket: Ticket, current: Standing) -> None:
    taken = move(
        ticket.pk,
        State.APPROVED,
        IN_TIME,
        rests_on(current),
        quorum(current),
        owner_agrees(current, ticket.kind),
        Q(revision=ticket.revision),
        approved_at=Now(),
        needs_owner=current.mode(ticket.kind) == "owner",
    )
    if not taken:
        return
    approved = fresh_row(ticket)
    _record("ticket.approved", actor, approved, digest=digest_of(approved), needed=approved.needed)
    notices.approved(approved)
    told(approved)


def _standing_of(ticket: Ticket) -> Standing:
    """What the ticket is judged by now. Raises TicketRefused: ``wrong_set``, ``closed``, ``no_approvers``."""
    current = standing(ticket.tenant)
    if current.row.pk != ticket.approvers_set_id:
        raise TicketRefused(
            "wrong_set", "There is another approver set by now. The requester edits the ticket to ask it."
        )
    if current.mode(ticket.kind) == "closed":
        raise TicketRefused("closed", "The tenant's owner lets nobody in this way any more.")
    return current


def _check_approval(ticket: Ticket, approvers: ApproverSet, signature: Mapping[str, Any]) -> str:
    return form.check_approval(form.Ticket.parse(ticket.document), approvers, signature, portal_site())


def _check_rejection(ticket: Ticket, approvers: ApproverSet, signature: Mapping[str, Any]) -> str:
    parsed = form.Ticket.parse(ticket.document)
    document = form.rejection_document(parsed)
    try:
        (person,) = signers(approvers, Purpose.REJECTION, document, [signature], portal_site())
    except ApproversError as error:
        raise TicketRefused(error.code, f"A rejection: {error}.") from None
    if person not in form.may_approve(parsed, approvers):
        raise TicketRefused("own_approval", "You asked for this yourself. Withdraw it instead.")
    return person


def _check_request(actor: Actor, checked: Checked, signature: Mapping[str, Any]) -> None:
    given = kept(signature)
    form.check_request(checked.ticket, given, portal_site())
    document = checked.ticket.document
    assertion_take(actor=actor, purpose=Purpose.ACCESS_REQUEST, document=document, signature=given)


def _only_requester(actor: Actor, ticket: Ticket) -> None:
    if actor.user is None or not actor.user.is_active or str(ticket.requester_id) != actor.id:
        raise TicketRefused("not_allowed", "Only the requester does this.")


def _one_at_a_time(actor: Actor) -> None:
    """A person's requests follow each other: so the limits on them hold, and one sent twice is one."""
    people = User.objects.select_for_update(no_key=True)
    if actor.user is None or not people.filter(pk=actor.user.pk, is_active=True).first():
        raise TicketRefused("not_allowed", "Only staff who may operate the tenant ask for this.")


def _repeated(actor: Actor, document: Any, signature: Mapping[str, Any]) -> Ticket | None:
    """A ticket that this very request has made: its answer may have been lost."""
    parsed = form.Ticket.parse(document)
    row = Revision.objects.filter(digest=parsed.digest, signature=kept(signature)).first()
    if row is None or str(row.ticket.requester_id) != actor.id:
        return None
    return row.ticket


def _asked(checked: Checked) -> dict[str, Any]:
    return {
        "passkey": checked.passkey,
        "approvers_set": checked.standing.row,
        "needed": checked.needed,
        "needs_owner": checked.needs_owner,
        "seconds": checked.ticket.seconds,
    }


def _keep_revision(ticket: Ticket, checked: Checked, signature: Mapping[str, Any]) -> None:
    Revision.objects.create(
        ticket=ticket,
        revision=checked.ticket.revision,
        document=dict(checked.ticket.document),
        digest=checked.ticket.digest,
        signature=kept(signature),
    )


def _record_asked(action: str, actor: Actor, ticket: Ticket, checked: Checked) -> None:
    """No words and no paths: the digest proves those."""
    _record(
        action,
        actor,
        ticket,
        digest=checked.ticket.digest,
        kind=checked.ticket.kind,
        scopes=list(checked.ticket.scopes),
        seconds=checked.ticket.seconds,
        needed=checked.needed,
        approvers=checked.standing.row.version,
        runtime=checked.ticket.runtime_id,
    )


def _owners(signature: Mapping[str, Any]) -> dict[str, Any]:
    """As it is stored: a passkey's five members, a device key's three."""
    if signature.get("kind") == "passkey":
        return kept(signature)
    return {name: str(signature.get(name, "")) for name in ("kind", "by", "signature")}


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _record(action: str, actor: Actor, ticket: Ticket, **data: Any) -> None:
    record(
        action=action,
        actor=actor,
        tenant_id=ticket.tenant_id,
        target=("ticket", ticket.pk),
        data={"revision": ticket.revision, **data},
    )
