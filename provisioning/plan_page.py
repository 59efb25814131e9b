"""The staff page on which a tenant gets another plan: what each would change, takes, and whether it fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms

from provisioning.models import Runtime
from provisioning.quotas import ROOM, Change, changes, impossible, needs_restart, size_of
from provisioning.selectors import reserved_on, short_of
from tenants.models import Plan


@dataclass(frozen=True)
class Offer:
    """A plan, as it would be for one machine."""

    plan: Plan
    current: bool
    changes: Sequence[Change]
    restart: bool
    problem: str
    """Why the machine cannot have it; empty if it can."""


def offers(runtime: Runtime) -> list[Offer]:
    """Every plan, the cheapest first, for a machine whose ``tenant`` and ``host`` are loaded."""
    has, host = size_of(runtime), runtime.host
    held = reserved_on(host) if host else {}
    found = []
    for plan in Plan.objects.all():
        gets = size_of(plan)
        differing = changes(has, gets)
        more = {name: (gets[name] or 0) - (has[name] or 0) for name in ROOM}
        grows = {name: need for name, need in more.items() if need > 0}
        short = short_of(host, grows, held) if host else []
        found.append(
            Offer(
                plan=plan,
                current=plan.pk == runtime.tenant.plan_id,
                changes=differing,
                restart=runtime.phase == Runtime.Phase.READY and needs_restart(differing),
                problem=impossible(differing) or (f"{host} {'; '.join(short)}." if short else ""),
            )
        )
    return found


class PlanForm(forms.Form):
    """Which plan, for how much, and whether the machine may be restarted for it."""

    plan = forms.ModelChoiceField(Plan.objects.all(), empty_label=None)
    price_cents = forms.IntegerField(label="Price (cents a month)", min_value=0, max_value=2**31 - 1)
    restart = forms.BooleanField(
        label="The machine may be restarted for it", required=False, help_text="Members' work is interrupted."
    )

    def refuse(self, error: Any) -> None:
        """Show a service's refusal beside what was typed."""
        named = getattr(error, "message_dict", {"__all__": error.messages})
        for field, words in named.items():
            self.add_error(field if field in self.fields else None, words)
