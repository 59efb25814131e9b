"""What the no-go check looks at in this room."""

from breakglass.alerts import alerts
from breakglass.models import ApproverSetVersion, GuestApprovers, TermsVersion
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
def access() -> tuple[bool, str]:
    """Guests confirm that break-glass access is over, and their receipts go together with the record."""
    problems = [f"{alert.about}: {alert.code}" for alert in alerts() if alert.severity == "loud"]
    return not problems, "; ".join(problems) or "every end is confirmed, and nobody was in unmeant"
