"""Carries the log's newest checkpoint to the guests and to the witnesses outside, and keeps what they answer.

A question to a guest is recorded like every other (two entries), so each round lets the tree grow a little,
and the next round has something to carry again. That is why there are rounds, `PORTAL_WITNESS_SECONDS` apart,
and no question for each checkpoint. Signatures themselves are telemetry (docs/adr/0035-witnesses.md).
"""

import logging
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, get_args

from django.conf import settings

from audit import log as the_log
from audit import proofs, witnesses
from audit.context import SYSTEM
from audit.models import Checkpoint, Witness
from protocol.enrolment import runtime_dns_name
from protocol.merkle import ProofError
from protocol.witnessing import Reason, Request
from provisioning import outside_witness
from provisioning.driver import DriverError
from provisioning.models import Runtime
from provisioning.outside_witness import OutsideUnreachable
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.selectors import ready_runtime, settled
from provisioning.verdicts import Verdict

log = logging.getLogger(__name__)
TRIES = 4
"""Questions in one round: the witness may hold more than we knew, and the log may grow meanwhile."""
UNREACHABLE = (AgentUnreachable, AgentRefused, DriverError, OutsideUnreachable)
_MOST = 2**63
UNSURE = "It refuses by a status that a proxy may give too ({}); once more, and it counts as refused."
"""On the witness's row after the first such round in a row."""
_REASONS = frozenset(get_args(Reason))
Ask = Callable[[Request, Checkpoint], Verdict]


def due() -> tuple[list[uuid.UUID], list[int]]:
    """The runtimes whose guests are to be asked, and the outside witnesses."""
    guests = list(settled().values_list("pk", flat=True))
    return guests, list(witnesses.active().exclude(url="").values_list("pk", flat=True))


def retire_gone() -> None:
    """Guests of runtimes that are deleted sign nothing any more."""
    for witness in witnesses.active().exclude(target=""):
        if Runtime.objects.filter(pk=witness.target, phase=Runtime.Phase.DELETED).exists():
            witnesses.witness_retire(
                actor=SYSTEM, witness=witness, reason="The runtime is deleted, and its guest with it."
            )


def ask_guest(runtime_id: uuid.UUID) -> None:
    """Offer the newest checkpoint to a guest, which is registered first if it is not yet."""
    runtime = ready_runtime(runtime_id)
    if runtime is None:
        return
    try:
        client = RuntimeClient.dial(runtime)
        witness = guest_of(runtime) or follow(runtime, client.status())
    except UNREACHABLE as error:
        log.info("runtime %s: not asked as a witness: %s", runtime_id, error)
        return
    if witness is not None:
        ask(witness, lambda request, _: _verdict(client.offer_checkpoint(request.to_text())))


def ask_outside(witness_id: int) -> None:
    """Offer the newest checkpoint to a witness outside."""
    witness = witnesses.active().exclude(url="").filter(pk=witness_id).first()
    if witness is not None:
        ask(witness, partial(_ask_outside, witness.url))


def guest_of(runtime: Runtime) -> Witness | None:
    """The witness that this runtime's guest is registered as."""
    return witnesses.active().filter(target=str(runtime.pk)).first()


def follow(runtime: Runtime, status: Mapping[str, Any]) -> Witness | None:
    """Register the key that a guest states, once; another one later, or another log, is a refusal.

    None: the guest states none that could be its own. The guest is the tenant's, so all of it is checked.
    """
    stated = status.get("witness")
    vkey, pinned = (stated.get("vkey"), stated.get("log")) if isinstance(stated, Mapping) else (None, None)
    witness = guest_of(runtime)
    if not isinstance(vkey, str) or vkey.partition("+")[0] != runtime_dns_name(str(runtime.pk)):
        log.warning("runtime %s: its guest states no witness key of its own", runtime.pk)
        return witness
    if witness is None:
        try:
            witness = witnesses.witness_register(
                actor=SYSTEM, vkey=vkey, target=str(runtime.pk), tenant_id=runtime.tenant_id
            )
        except witnesses.WitnessError as error:
            log.warning("runtime %s: its witness key is not taken: %s", runtime.pk, error)
            return None
    elif witness.vkey != vkey:
        witnesses.refused(witness, proofs.latest(), witnesses.Reason.OTHER_KEY, witnesses.held_by(witness))
    if pinned and pinned != str(the_log.vkey()):
        witnesses.refused(witness, proofs.latest(), witnesses.Reason.ORIGIN, witnesses.held_by(witness))
    return witness


def ask(witness: Witness, question: Ask) -> None:
    """One round with one witness, unless another worker has it.

    What it has signed already is offered again: a database set back to just that state is else not seen.
    """
    if proofs.latest() is None:
        return
    if not witnesses.take(witness, timedelta(seconds=0.8 * settings.WITNESS_SECONDS)):
        return
    try:
        _offered(witness, question)
    except UNREACHABLE as error:
        witnesses.not_reached(witness, str(error))
    except ProofError as error:
        log.critical("No proof for the witness %s: %s.", witness, error)
        witnesses.not_reached(witness, "The tree in the database gives no proof: run audit_verify.")
    else:
        witnesses.not_reached(witness, "")


def _offered(witness: Witness, question: Ask) -> None:
    old = witnesses.held_by(witness)
    verdict, checkpoint = Verdict(), proofs.latest()
    for _ in range(TRIES):
        checkpoint = proofs.latest()
        if checkpoint is None:
            return
        verdict = question(witnesses.request_for(checkpoint, old), checkpoint)
        if not verdict.reason:
            _signed(witness, checkpoint, verdict)
            return
        if verdict.reason == "stale" and verdict.size != old:
            _has_forgotten(witness, checkpoint, verdict.size)
            old = verdict.size  # killed before it was written down, or asked by somebody else
        elif _is_newest(checkpoint):
            break  # what was shown is the log's present head, so it is the log's own
        else:
            old = max(old, witnesses.held_by(witness))
    if not verdict.sure and witness.problem != (doubt := UNSURE.format(verdict.reason)):
        raise OutsideUnreachable(doubt)
    if witnesses.refused(witness, checkpoint, verdict.reason, verdict.size):
        log.critical("The witness %s refuses the log's checkpoint: %s.", witness, verdict.reason)


def _has_forgotten(witness: Witness, checkpoint: Checkpoint, size: int) -> None:
    """A witness that holds less than it has signed for would sign another history of the rest."""
    if size < witnesses.held_by(witness):
        log.critical("The witness %s holds %d leaves, and has signed for more.", witness, size)
        witnesses.refused(witness, checkpoint, witnesses.Reason.FORGOTTEN, size)


def _signed(witness: Witness, checkpoint: Checkpoint, verdict: Verdict) -> None:
    try:
        witnesses.cosigned(witness, checkpoint, verdict.lines)
    except witnesses.BadCosignature as error:
        log.critical("The witness %s gives no signature of its own: %s.", witness, error)
        witnesses.refused(witness, checkpoint, witnesses.Reason.BAD_COSIGNATURE, verdict.size)


def _is_newest(checkpoint: Checkpoint) -> bool:
    """A witness may have been shown a newer one by another worker, and then rightly refuses this."""
    newest = proofs.latest()
    return newest is None or newest.size == checkpoint.size


def _ask_outside(url: str, request: Request, checkpoint: Checkpoint) -> Verdict:
    return outside_witness.add_checkpoint(url, request.to_text(), request.old, checkpoint.size)


def _verdict(answer: Mapping[str, Any]) -> Verdict:
    """What a guest answered; it is the tenant's, so nothing is taken as it comes.

    Raises:
        AgentUnreachable: malformed.
    """
    lines, reason, size = (answer.get(name) for name in ("cosignature", "reason", "size"))
    if answer.get("verdict") == "signed" and isinstance(lines, str):
        return Verdict(lines=lines)
    if answer.get("verdict") == "refused" and reason in _REASONS and type(size) is int and 0 <= size < _MOST:
        return Verdict(reason=str(reason), size=size)
    raise AgentUnreachable("The guest's answer to a checkpoint is malformed.")
