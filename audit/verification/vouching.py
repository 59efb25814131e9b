"""Witnesses, retirements, refusals and acknowledgements, each beside the entry that tells of it.

Web and workers write these rows, and whoever is in their place can: the entries are what stands in the tree.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from audit.models import Entry, RefusalAcknowledgement, Witness, WitnessRefusal
from audit.verification.findings import Findings

Facts = tuple[str, ...]
"""The witness's id first."""


def _registered(event: Mapping[str, Any]) -> Iterable[object]:
    data = event["data"]
    return data["name"], data["vkey"], data["url"], event["tenant"]


def _refused(event: Mapping[str, Any]) -> Iterable[object]:
    data = event["data"]
    return data["refusal"], data["code"], data["held"]


def _acknowledged(event: Mapping[str, Any]) -> Iterable[object]:
    return event["data"]["refusal"], event["actor"]["id"], event["personal"]["reason"]


_TOLD: Mapping[str, Callable[[Mapping[str, Any]], Iterable[object]]] = {
    "witness.registered": _registered,
    "witness.retired": lambda _: (),
    "witness.refused": _refused,
    "witness.refusal_acknowledged": _acknowledged,
}
"""Action → what its event says beside the witness's id."""


def check_vouching(found: Findings) -> None:
    """Rows without their entry, and entries without their row."""
    rows = _rows()
    told: dict[str, set[Facts]] = {action: set() for action in _TOLD}
    archived: set[tuple[str, str]] = set()
    entries = Entry.objects.filter(action__in=_TOLD)
    for action, target, event in entries.values_list("action", "target_id", "event").iterator():
        if not event:
            archived.add((action, target))
            continue
        try:
            told[action].add(_facts(target, *_TOLD[action](json.loads(event))))
        except Exception:
            found.add("witness_foreign", f"{action} of witness {target}: the text is no event")
    for action, have in rows.items():
        for facts in sorted(have ^ told[action]):
            if (action, facts[0]) not in archived:
                there = "no entry tells of it" if facts in have else "an entry tells of it, and no row"
                found.add("witness_foreign", f"{action}, witness {', '.join(facts)}: {there}")


def _rows() -> dict[str, set[Facts]]:
    witnesses = list(Witness.objects.all())
    acknowledged = RefusalAcknowledgement.objects.values_list("refusal__witness", "refusal", "by", "why")
    refused = WitnessRefusal.objects.values_list("witness", "pk", "reason", "size")
    return {
        "witness.registered": {
            _facts(one.pk, one.name, one.vkey, one.url, one.tenant_id) for one in witnesses
        },
        "witness.retired": {_facts(one.pk) for one in witnesses if one.retired_at},
        "witness.refused": {_facts(*row) for row in refused},
        "witness.refusal_acknowledged": {_facts(*row) for row in acknowledged},
    }


def _facts(*given: object) -> Facts:
    return tuple("" if one is None else str(one) for one in given)
