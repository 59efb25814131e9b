"""What the no-go check looks at in this room."""

from breakglass.alerts import REFUSED, alerts
from breakglass.models import ApproverSetVersion, GuestApprovers, TermsVersion
from breakglass.people import read_set, seats
from breakglass.selectors import current_set
from provisioning.models import Runtime
from provisioning.promises import promise


@promise
def approvers() -> tuple[bool, str]:
    """Guests state approvers that were in force here, and terms that an owner signed; none refuses ours."""
    stating = GuestApprovers.objects.filter(runtime__phase=Runtime.Phase.READY).select_related("runtime")
    sets = dict(ApproverSetVersion.objects.values_list("version", "hash"))
    signed = {
        (row.tenant_id, row.version): row.document
        for row in TermsVersion.objects.filter(tenant__in=stating.values("runtime__tenant"))
    }
    problems = []
    for row in stating:
        pinned, terms = row.stated.get("approvers"), row.stated.get("terms")
        if pinned and sets.get(pinned["version"]) != pinned["hash"]:
            problems.append(f"{row.runtime}: states a set of approvers that was never in force here")
        document = signed.get((row.runtime.tenant_id, terms["version"]), {}) if terms else {}
        if terms and any(terms[name] != document.get(name) for name in ("ordinary", "emergency")):
            problems.append(f"{row.runtime}: states terms that no owner has signed here")
        if row.refused:
            problems.append(f"{row.runtime}: refuses its approvers or terms ({row.refused})")
    return not problems, "; ".join(problems) or f"{len(stating)} ready guests believe what was signed"


@promise
def approver_keys() -> tuple[bool, str]:
    """Each key of the set in force is still in use, and enough people are left to change the set."""
    current = read_set(current_set())
    if current is None:
        return True, "there are no approvers, so nobody is let in"
    people = seats(current)
    problems = [
        f"{seat.person}: key {key.fingerprint[:16]} is in the set in force, and {key.trouble}"
        for seat in people
        for key in seat.keys
        if key.trouble
    ]
    able = sum(seat.able for seat in people)
    if able < current.threshold:
        problems.append(f"{able} people can still sign, and a change of the set takes {current.threshold}")
    return not problems, "; ".join(problems) or f"{len(people)} approvers, all keys in use"


@promise
def access() -> tuple[bool, str]:
    """Guests confirm that break-glass access is over, and their receipts go together with the record."""
    # What was looked into stops no other machine, though the guest's receipts are still refused.
    found = [alert for alert in alerts() if alert.severity == "loud" and alert.code != REFUSED]
    problems = [f"{alert.about}: {alert.code}" for alert in found]
    return not problems, "; ".join(problems) or "every end is confirmed, and nobody was in unmeant"
