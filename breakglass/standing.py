"""What holds for a tenant now: the approver set in force, and its owner's terms."""

from dataclasses import dataclass

from django.conf import settings

from breakglass.models import ApproverSetVersion, TenantApprovers, TermsVersion
from breakglass.refusals import TicketRefused
from protocol.approvers import ApproversError, ApproverSet
from protocol.persons import Site
from protocol.terms import DEFAULT_MODE, Terms, TermsError
from tenants.models import Tenant
from tenants.sites import rp_id


@dataclass(frozen=True)
class Standing:
    """Read once; each statement that relies on it asks again whether it is still the newest."""

    row: ApproverSetVersion
    approvers: ApproverSet
    terms: Terms | None

    @property
    def terms_version(self) -> int:
        """0 where the owner has signed none."""
        return self.terms.version if self.terms else 0

    @property
    def public_keys(self) -> list[str]:
        """Of all who are in the set, as passkeys have them."""
        return [one.key.public_key.hex() for one in self.approvers.approvers.values()]

    def mode(self, kind: str) -> str:
        """What the terms say for a kind of ticket."""
        return self.terms.mode(kind) if self.terms else DEFAULT_MODE


def standing(tenant: Tenant) -> Standing:
    """What a ticket for ``tenant`` rests on.

    Raises:
        TicketRefused: ``no_approvers`` where no owner has named a set, and for whatever cannot be read:
            an empty or unreadable quorum lets nobody in.
    """
    row = ApproverSetVersion.objects.first()
    if row is None or not TenantApprovers.objects.filter(tenant=tenant).exists():
        raise TicketRefused(
            "no_approvers", "No owner of this tenant has named approvers. Ask one: there is no other way in."
        )
    terms = TermsVersion.objects.filter(tenant=tenant).first()
    try:
        return Standing(row, ApproverSet.parse(row.document), Terms.parse(terms.document) if terms else None)
    except (ApproversError, TermsError):
        raise TicketRefused(
            "no_approvers", "What is kept of approvers or terms cannot be read. Ask whoever runs the portal."
        ) from None


def portal_site() -> Site:
    """Where people sign requests and approvals: on the portal's own pages only."""
    return Site(rp_id(), frozenset({settings.BASE_URL}))
