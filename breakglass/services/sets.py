"""The approver set: proposed by one, in force once a quorum of the set before has signed.

Nothing that a portal writes makes an approver: machines check the same signatures again. The first set is
signed by a quorum of its own people, so that each of them has shown their key; what a machine believes of it
is its owner's signature (:mod:`breakglass.services.naming`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from audit.context import Actor
from audit.services import record
from breakglass import signals
from breakglass.models import ApproverSetVersion, Passkey, SetProposal, SetSignature
from breakglass.people import names_person, read_set, usable_passkeys
from breakglass.refusals import TicketRefused
from breakglass.selectors import current_set
from breakglass.services.assertions import kept
from breakglass.services.passkeys import assertion_take, clones_noted, staff_user
from breakglass.standing import portal_site
from protocol.approvers import ApproversError, ApproverSet, check_quorum
from protocol.canonical import canonical
from protocol.persons import Purpose

PROPOSE = "breakglass.propose_set"
"""The permission to propose a set without being an approver: how the first one comes about."""
MAX_OPEN = 5
State = SetProposal.State
_STALE = "Another set is in force meanwhile. Propose this one anew."


def set_draft(*, passkeys: Sequence[Passkey], threshold: int, policy: Mapping[str, int]) -> dict[str, Any]:
    """The document of the set that would follow the one in force. Checks nothing yet.

    ``passkeys``: the approvers', each with its holder; a person may have several.
    """
    current = current_set()
    ordered = sorted(passkeys, key=lambda passkey: (passkey.user_id, passkey.fingerprint))
    return {
        "version": current.version + 1 if current else 1,
        "previous": current.hash if current else None,
        "threshold": threshold,
        "policy": dict(policy),
        "approvers": [
            {
                "kind": "passkey",
                "public_key": passkey.public_key,
                "person": passkey.person,
                "name": passkey.user.get_username()[:80],
            }
            for passkey in ordered
        ],
    }


@transaction.atomic
def set_propose(*, actor: Actor, document: Any) -> SetProposal:
    """Put a set up for signatures. It changes nothing until enough have signed.

    Raises:
        TicketRefused: ``not_allowed``, ``malformed`` (also a number that its people can never reach),
            ``stale``, ``unknown_passkey``, ``proposed_already`` or ``too_many``.
    """
    user = staff_user(actor)
    current = read_set(current_set())
    if not may_propose(user):
        raise TicketRefused("not_allowed", "Only approvers propose a set. Ask one.")
    proposed = _parsed(document)
    _check_follows(current, proposed)
    _check_holders(proposed)
    if SetProposal.objects.filter(state=State.OPEN).count() >= MAX_OPEN:
        raise TicketRefused("too_many", f"{MAX_OPEN} proposals are open. Sign or withdraw one first.")
    stored = json.loads(canonical(document))
    try:
        with transaction.atomic():
            proposal = SetProposal.objects.create(
                version=proposed.version, document=stored, hash=proposed.hash, by_id=user.pk
            )
    except IntegrityError:
        raise TicketRefused("proposed_already", "Just this set is proposed already. Sign it.") from None
    _record("approvers.proposed", actor, proposal)
    return proposal


@clones_noted
@transaction.atomic
def set_sign(*, actor: Actor, proposal: SetProposal, signature: Mapping[str, Any]) -> SetProposal:
    """Take one approver's signature; with the one that makes the quorum, the set is in force.

    The same signature again answers the proposal as it is by now.

    Raises:
        TicketRefused: ``not_open``, ``stale``, ``unknown_passkey`` (also of people who have left since),
            ``not_an_approver``, ``signed_already``, or what :func:`assertion_take` refuses.
    """
    waiting = _lock_open()
    given = kept(signature)
    if SetSignature.objects.filter(proposal=proposal, signature=given).exists():
        # A lost answer asked for again: the passkey's counter has moved on with the first.
        return SetProposal.objects.get(pk=proposal.pk)
    proposal = _among(waiting, proposal)
    proposed = _parsed(proposal.document)
    current = read_set(current_set())
    _check_follows(current, proposed)
    # Looked at with each signature: nobody signs in somebody who has left since it was proposed.
    _check_holders(proposed)
    passkey = assertion_take(
        actor=actor, purpose=Purpose.APPROVERS, document=proposal.document, signature=given
    )
    signing = current or proposed
    approver = signing.approvers.get(passkey.fingerprint)
    if approver is None or approver.person != passkey.person:
        raise TicketRefused("not_an_approver", "Only approvers of the set in force sign the next one.")
    if SetSignature.objects.filter(proposal=proposal, passkey__user=passkey.user_id).exists():
        raise TicketRefused("signed_already", "You have signed this set. Others must sign it, too.")
    SetSignature.objects.create(proposal=proposal, passkey=passkey, signature=given)
    _record("approvers.signed", actor, proposal, signed_by=passkey.fingerprint)
    if len(signers(proposal)) >= signing.threshold:
        _put_in_force(actor, proposal, signing)
    return proposal


@transaction.atomic
def set_withdraw(*, actor: Actor, proposal: SetProposal) -> None:
    """Take a proposal back: whoever made it, or any approver of the set in force.

    Raises:
        TicketRefused: ``not_allowed`` or ``not_open``.
    """
    user = staff_user(actor)
    if proposal.by_id != user.pk and not names_person(read_set(current_set()), user.pk):
        raise TicketRefused("not_allowed", "Only who proposed it and approvers withdraw a set.")
    if not SetProposal.objects.filter(pk=proposal.pk, state=State.OPEN).update(state=State.WITHDRAWN):
        raise _not_open()
    _record("approvers.withdrawn", actor, proposal)


def may_propose(user: User) -> bool:
    """Approvers of the set in force, and staff with the permission; what counts is who signs."""
    return names_person(read_set(current_set()), user.pk) or user.has_perm(PROPOSE)


def signers(proposal: SetProposal) -> set[int]:
    """The people who have signed and still count: active staff, with a passkey that is not retired."""
    signed = SetSignature.objects.filter(proposal=proposal, passkey__in=usable_passkeys())
    return set(signed.values_list("passkey__user", flat=True))


def _put_in_force(actor: Actor, proposal: SetProposal, signing: ApproverSet) -> None:
    """``signing``: whose quorum it takes. Each signature is checked against the document once more."""
    counting = SetSignature.objects.filter(proposal=proposal, passkey__in=usable_passkeys())
    signatures = list(counting.values_list("signature", flat=True))
    _check_signed(proposal, signing, signatures)
    if proposal.version == 1:
        # Its own people are no set before it: a machine takes the first by its owner's signature.
        signatures = []
    try:
        with transaction.atomic():
            taken = ApproverSetVersion.objects.create(
                version=proposal.version,
                hash=proposal.hash,
                document=proposal.document,
                signatures=signatures,
            )
    except IntegrityError:
        raise TicketRefused("stale", _STALE) from None
    SetProposal.objects.filter(pk=proposal.pk).update(state=State.ACCEPTED)
    proposal.state = State.ACCEPTED
    _record("approvers.accepted", actor, proposal)
    # What was to follow the same set can follow it no more.
    for other in SetProposal.objects.filter(state=State.OPEN).order_by("pk"):
        SetProposal.objects.filter(pk=other.pk).update(state=State.WITHDRAWN)
        _record("approvers.withdrawn", actor, other)
    signals.approvers_changed.send(sender=ApproverSetVersion, version=taken.version)


def _check_signed(
    proposal: SetProposal, signing: ApproverSet, signatures: Sequence[Mapping[str, Any]]
) -> None:
    """A set in force that no quorum signed, no machine takes, nor any set after it: the table is for good."""
    try:
        if proposal.hash != ApproverSet.parse(proposal.document).hash:
            raise ApproversError("malformed", "its hash is another document's")
        check_quorum(signing, Purpose.APPROVERS, proposal.document, signatures, portal_site())
    except ApproversError as error:
        raise TicketRefused(
            error.code, f"What is kept of this proposal does not fit: {error}. Withdraw it, and propose anew."
        ) from None


def _lock_open() -> dict[int, SetProposal]:
    """One signature at a time, under whichever proposal: two at once cannot both miss the quorum.

    All that are open, in one order: the one that wins closes the others.
    """
    waiting = SetProposal.objects.select_for_update().filter(state=State.OPEN).order_by("pk")
    return {each.pk: each for each in waiting}


def _among(waiting: Mapping[int, SetProposal], proposal: SetProposal) -> SetProposal:
    found = waiting.get(proposal.pk)
    if found is None:
        raise _not_open()
    return found


def _check_follows(current: ApproverSet | None, proposed: ApproverSet) -> None:
    due = (current.version + 1, current.hash) if current else (1, None)
    if (proposed.version, proposed.previous) != due:
        raise TicketRefused("stale", _STALE)


def _check_holders(proposed: ApproverSet) -> None:
    """Raises TicketRefused: a key that is not, today, a passkey of just that active person of the staff."""
    found = usable_passkeys().filter(fingerprint__in=list(proposed.approvers))
    held = {passkey.fingerprint: passkey.person for passkey in found}
    for fingerprint, approver in proposed.approvers.items():
        if held.get(fingerprint) != approver.person:
            raise TicketRefused(
                "unknown_passkey",
                f"Key {fingerprint[:16]} is no passkey that an active person of the staff holds. "
                "Propose a set without it.",
            )


def _parsed(document: Any) -> ApproverSet:
    try:
        return ApproverSet.parse(document)
    except ApproversError as error:
        raise TicketRefused(error.code, f"This set cannot be taken: {error}.") from None


def _not_open() -> TicketRefused:
    return TicketRefused("not_open", "This proposal is closed. Reload the page.")


def _record(action: str, actor: Actor, proposal: SetProposal, **more: str) -> None:
    record(
        action=action,
        actor=actor,
        target=("approver_set", proposal.pk),
        data={"version": proposal.version, "hash": proposal.hash, **more},
    )
