"""docs/operations.md says of each kind of operation whether it can be cancelled, and which phase that leaves."""

import re
from pathlib import Path

from provisioning.models import Operation
from provisioning.transitions import TRANSITIONS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
LABELS = {
    **{kind: kind.label.lower() for kind in Operation.Kind},
    Operation.Kind.DELIVER: "deliver",
    Operation.Kind.RESEAL: "reseal",
}
"""As the document calls them."""


def left() -> dict[str, str]:
    """What cancelling leaves, by kind."""
    _, _, table = TEXT.partition("| cancelled | what it leaves |\n|---|---|\n")
    found: dict[str, str] = {}
    for row in table.partition("\n\n")[0].splitlines():
        kinds, leaves = (cell.strip() for cell in row.strip("|").split("|"))
        names = [kinds] if kinds in LABELS.values() else kinds.split(", ")
        found |= dict.fromkeys(names, leaves)
    return found


def test_the_kinds_that_can_be_cancelled() -> None:
    can = {
        LABELS[Operation.Kind(kind)] for kind, change in TRANSITIONS.items() if change.cancelled is not None
    }
    assert set(left()) == can


def test_the_phase_that_is_left() -> None:
    for kind, label in LABELS.items():
        change = TRANSITIONS[kind]
        if change.cancelled is not None:
            first, *_ = re.findall(r"`(\w+)`", left()[label])
            assert first == change.cancelled, label
