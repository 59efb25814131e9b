"""The one table of how a runtime's phase may change (DESIGN §5), and the one gate that changes it."""

from dataclasses import dataclass

from provisioning.models import Operation, Runtime

Phase = Runtime.Phase
Kind = Operation.Kind


@dataclass(frozen=True)
class Transition:
    """An operation kind's effect on the phase."""

    allowed: frozenset[str]
    during: Phase | None
    """None, here and below: as it was before."""
    success: Phase | None
    failure: Phase
    cancelled: Phase | None = None
    """The phase after a cancelled operation is undone; None: it cannot be cancelled."""
    destructive: bool = False
    """Needs a typed reason."""
    yields: bool = False
    """Ends when somebody asks for another kind: it changes nothing that the next one could not do again."""
    restores: bool = False
    """Undoing brings all back: then the phase is as before, too, unless the machine could not be revived."""
    needs_data: bool | None = None
    """True: only for a runtime that has been ready before; False: only for one that has not."""


_SETTLED = frozenset({Phase.READY, Phase.STOPPED, Phase.FAILED, Phase.QUARANTINED})

_IN_PASSING = Transition(
    frozenset({Phase.READY}),
    Phase.READY,
    Phase.READY,
    Phase.READY,
    cancelled=Phase.READY,
    yields=True,
    needs_data=True,
)
"""Whatever comes of it, the guest runs as before: nobody sees another phase."""

TRANSITIONS: dict[str, Transition] = {
    Kind.CREATE: Transition(
        frozenset({Phase.PENDING, Phase.FAILED}),
        Phase.PROVISIONING,
        Phase.READY,
        Phase.FAILED,
        cancelled=Phase.PENDING,
        needs_data=False,
    ),
    Kind.START: Transition(
        frozenset({Phase.STOPPED, Phase.FAILED}),
        Phase.PROVISIONING,
        Phase.READY,
        Phase.FAILED,
        cancelled=Phase.STOPPED,
        needs_data=True,
    ),
    Kind.STOP: Transition(
        frozenset({Phase.READY, Phase.FAILED}),
        Phase.PROVISIONING,
        Phase.STOPPED,
        Phase.FAILED,
        needs_data=True,
    ),
    Kind.RESTART: Transition(
        frozenset({Phase.READY, Phase.FAILED}),
        Phase.PROVISIONING,
        Phase.READY,
        Phase.FAILED,
        cancelled=Phase.STOPPED,
        needs_data=True,
    ),
    Kind.REBUILD: Transition(
        frozenset({Phase.READY, Phase.STOPPED, Phase.FAILED}),
        Phase.PROVISIONING,
        Phase.READY,
        Phase.FAILED,
        cancelled=Phase.STOPPED,
        destructive=True,
        needs_data=True,
    ),
    Kind.DELETE: Transition(
        _SETTLED | {Phase.PENDING}, Phase.DELETING, Phase.DELETED, Phase.FAILED, destructive=True
    ),
    Kind.FORCE_DELETE: Transition(
        _SETTLED | {Phase.PENDING, Phase.PROVISIONING, Phase.DELETING},
        Phase.DELETING,
        Phase.DELETED,
        Phase.FAILED,
        destructive=True,
    ),
    Kind.QUARANTINE: Transition(
        _SETTLED, Phase.QUARANTINED, Phase.QUARANTINED, Phase.QUARANTINED, destructive=True, needs_data=True
    ),
    Kind.RELEASE: Transition(
        frozenset({Phase.QUARANTINED}),
        Phase.PROVISIONING,
        Phase.READY,
        Phase.QUARANTINED,
        cancelled=Phase.QUARANTINED,
        destructive=True,
        needs_data=True,
    ),
    Kind.MEND: _IN_PASSING,
    Kind.DELIVER: _IN_PASSING,
    Kind.RESEAL: _IN_PASSING,
    Kind.RESIZE: Transition(
        frozenset({Phase.READY, Phase.STOPPED}), None, None, Phase.FAILED, restores=True, needs_data=True
    ),
    Kind.RESIZE_RESTART: Transition(
        frozenset({Phase.READY}),
        Phase.PROVISIONING,
        Phase.READY,
        Phase.FAILED,
        cancelled=Phase.FAILED,
        restores=True,
        needs_data=True,
    ),
}


def refusal(runtime: Runtime, kind: str) -> str | None:
    """Why ``kind`` cannot be requested now, in words for a person; None if it can."""
    transition = TRANSITIONS[kind]
    label = Kind(kind).label.lower()
    if runtime.phase not in transition.allowed:
        return f"A runtime that is {runtime.phase} cannot {label}."
    has_data = runtime.first_ready_at is not None
    if transition.needs_data is True and not has_data:
        return f"This runtime was never ready, so it cannot {label}. Create it first."
    if transition.needs_data is False and has_data:
        return "This runtime was created before and holds data. Start or rebuild it instead."
    return None
