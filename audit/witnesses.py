"""Witnesses of the log: registered, asked, believed only by their signatures; and what came of refusals.

Who asks them is for the higher rooms (:mod:`provisioning.witnessing`); this one keeps what came of it.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone

from audit import proofs
from audit.acknowledging import acknowledge
from audit.context import SYSTEM, Actor
from audit.models import Checkpoint, Cosignature, RefusalAcknowledgement, Witness, WitnessRefusal
from audit.personal import reason_of
from audit.reasons import reason_problem
from audit.services import record
from audit.witness_urls import url_problem
from protocol.checkpoints import check_cosignature
from protocol.notes import COSIGNATURE_V1, Note, NoteError, Signature, VerifierKey
from protocol.witnessing import Request

FUTURE = timedelta(minutes=5)
"""How far ahead of our clock a witness may date its signature."""
MAX_LINES = 16
Reason = WitnessRefusal.Reason


class WitnessError(ValidationError):
    """A change of witnesses that is not made; the messages say what to change."""


class BadCosignature(Exception):
    """What a witness sent is not its signature under this checkpoint."""


def parse_key(text: str) -> VerifierKey:
    """A witness's verifier key.

    Raises:
        WitnessError: it is none.
    """
    try:
        key = VerifierKey.parse(text)
    except NoteError as error:
        raise WitnessError({"vkey": f"Give the key as name+key id+base64: {error}."}) from None
    if key.algorithm != COSIGNATURE_V1:
        raise WitnessError({"vkey": "Give a witness's key (cosignature/v1): this one signs no checkpoints."})
    return key


@transaction.atomic
def witness_register(
    *, actor: Actor, vkey: str, url: str = "", target: str = "", tenant_id: UUID | None = None
) -> Witness:
    """Believe this key from now on.

    Raises:
        WitnessError: it is no witness's key, or one of that name or key is known.
    """
    key = parse_key(vkey)
    if url and (problem := url_problem(url)):
        raise WitnessError({"url": problem})
    witness = Witness(name=key.name, vkey=str(key), url=url, target=target, tenant_id=tenant_id)
    try:
        witness.full_clean()
    except ValidationError as error:
        raise WitnessError(error.message_dict) from None
    witness.save()
    _record("witness.registered", actor, witness, {"vkey": witness.vkey, "url": witness.url})
    return witness


@transaction.atomic
def witness_retire(*, actor: Actor, witness: Witness, reason: str) -> None:
    """Ask it no more, and count it no more. What it has signed stays.

    Raises:
        WitnessError: it is retired, or the reason is too short or long.
    """
    if problem := reason_problem(reason):
        raise WitnessError(problem)
    if not Witness.objects.filter(pk=witness.pk, retired_at=None).update(retired_at=timezone.now()):
        raise WitnessError("This witness is retired already.")
    _record("witness.retired", actor, witness, {"vkey": witness.vkey}, reason)


@transaction.atomic
def refusal_acknowledge(*, actor: Actor, refusal: WitnessRefusal, reason: str) -> None:
    """End the alarm of one refusal: somebody has found out why, and says so.

    Raises:
        NotAcknowledged: somebody else was first, or the reason is too short or long.
    """
    acknowledge(RefusalAcknowledgement, actor, reason, refusal=refusal)
    about = {"refusal": refusal.pk, "code": refusal.reason}
    _record("witness.refusal_acknowledged", actor, refusal.witness, about, reason)


def take(witness: Witness, every: timedelta) -> bool:
    """Whether the caller is to ask it now: nobody has taken it within ``every``. Telemetry."""
    now = timezone.now()
    due = Q(asked_at=None) | Q(asked_at__lte=now - every)
    return bool(Witness.objects.filter(due, pk=witness.pk, retired_at=None).update(asked_at=now))


def not_reached(witness: Witness, problem: str) -> None:
    """Note that it gave no answer, and why; empty once it has. Telemetry."""
    Witness.objects.filter(pk=witness.pk).exclude(problem=problem[:200]).update(problem=problem[:200])


def request_for(checkpoint: Checkpoint, old: int) -> Request:
    """What to send to a witness that holds ``old`` leaves."""
    proof = proofs.consistency(old, checkpoint.size) if 0 < old <= checkpoint.size else []
    return Request(old, tuple(proof), checkpoint.note)


def held_by(witness: Witness) -> int:
    """The size of the largest tree that it has signed for; 0 for none."""
    found = Cosignature.objects.filter(witness=witness).aggregate(size=Max("checkpoint__size"))
    return int(found["size"] or 0)


def cosigned(witness: Witness, checkpoint: Checkpoint, lines: str) -> None:
    """Keep a signature. One that is there already stays. Telemetry: it proves itself.

    Args:
        lines: what the witness answered; an outside one may send lines of others with its own.

    Raises:
        BadCosignature: none is this witness's under this checkpoint, or it is dated in the future.
    """
    key = VerifierKey.parse(witness.vkey)
    try:
        signatures = [Signature.parse(line) for line in lines.splitlines()[:MAX_LINES]]
        note = Note(Note.parse(checkpoint.note).text, tuple(signatures))
        signed_at = datetime.fromtimestamp(check_cosignature(note, key), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadCosignature(str(error)) from None
    if signed_at > timezone.now() + FUTURE:
        raise BadCosignature("it is dated in the future")
    defaults = {"line": str(note.of(key)[-1]), "signed_at": signed_at}
    Cosignature.objects.get_or_create(witness=witness, checkpoint=checkpoint, defaults=defaults)


@transaction.atomic
def refused(witness: Witness, checkpoint: Checkpoint | None, reason: str, size: int) -> bool:
    """Keep a refusal, with its entry. Whether it is new.

    While nobody has acknowledged the last one for the same reason it is the same alarm: a witness gone bad
    that refuses each time fills no table.
    """
    Witness.objects.select_for_update().get(pk=witness.pk)
    if open_refusals().filter(witness=witness, reason=reason).exists():
        return False
    refusal = WitnessRefusal.objects.create(
        witness=witness, checkpoint=checkpoint, reason=Reason(reason), size=size
    )
    about = {
        "refusal": refusal.pk,
        "code": reason,
        "held": size,
        "checkpoint": checkpoint.size if checkpoint else 0,
    }
    _record("witness.refused", SYSTEM, witness, about)
    return True


def active() -> QuerySet[Witness]:
    """Those that are asked and counted."""
    return Witness.objects.filter(retired_at=None)


def open_refusals() -> QuerySet[WitnessRefusal]:
    """Those that nobody has looked into."""
    return WitnessRefusal.objects.filter(acknowledgement=None).select_related("witness", "checkpoint")


def _record(action: str, actor: Actor, witness: Witness, data: dict[str, object], reason: str = "") -> None:
    record(
        action=action,
        actor=actor,
        tenant_id=witness.tenant_id,
        target=("witness", witness.pk),
        data={"name": witness.name, **data},
        personal={"reason": reason_of(actor, reason.strip())} if reason else {},
    )
