"""Pages whose mere sight is recorded: people, their keys, names of secrets, connections, and the record.

The first look is an entry; the same person's next looks at the same page within ten minutes belong to it,
or a page that fetches itself anew would fill the record. The entry is written before the answer leaves this
process: if it cannot be, there is no answer. The method does not matter: staff's lists answer a form that
does nothing with all their rows. Files that are streamed have entries of their own (``record.exported``).
"""

from typing import Any

from django.core.cache import caches
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from audit.context import Actor
from audit.services import record

TOGETHER_SECONDS = 600
SHOWN_TENANT = "shown_tenant"
"""A view's note on its request: the one tenant that the answer is about, where the address does not say."""
PAGES = {
    "tenant-members": "members",
    "tenant-secrets": "secrets",
    "tenant-secrets-live": "secrets",
    "tenant-outside": "outside",
    "break-glass": "tickets",
    "break-glass-live": "tickets",
    "break-glass-edit": "tickets",
    "break-glass-ticket": "tickets",
    "break-glass-ticket-live": "tickets",
    "break-glass-keys": "passkeys",
    "break-glass-approvers": "approvers",
    "break-glass-approvers-new": "approvers",
    "tenant-break-glass": "tickets",
    "tenant-break-glass-live": "tickets",
    "tenant-break-glass-ticket": "tickets",
    "tenant-break-glass-ticket-live": "tickets",
    "tenant-break-glass-approvers": "approvers",
    "api-break-glass": "tickets",
    "api-break-glass-ticket": "tickets",
    "api-break-glass-approvers": "approvers",
    "tenant-record": "record",
    "tenant-record-entry": "record",
    "tenant-record-receipt": "record",
    "api-record": "record",
    "api-record-entry": "record",
    "api-record-receipt": "record",
    "api-keyring": "members",
    "api-secrets": "secrets",
    "api-secrets-key": "secrets",
    "api-secret": "secrets",
    "api-egress": "outside",
}
"""Routes of tenants, with the name of what they show. Checkpoints and proofs show hashes: of nobody;
who takes the log's bundles of entries exports it (:mod:`portal.log_views`)."""
MODELS = {
    "auth.User": "people",
    "auth.Group": "people",
    "axes.AccessAttempt": "sign-ins",
    "audit.Entry": "record",
    "audit.PersonalDatum": "personal data",
    "tenants.MemberKey": "members",
    "tenants.KeyringVersion": "members",
    "tenants.ConsentVersion": "members",
    "tenants.ConnectorSecret": "secrets",
    "tenants.TenantKey": "secrets",
    "provisioning.EgressRecord": "outside",
    "breakglass.Ticket": "tickets",
    "breakglass.Notice": "tickets",
    "breakglass.Passkey": "passkeys",
    "breakglass.ApproverSetVersion": "approvers",
    "breakglass.SetProposal": "approvers",
}
"""Models all of whose staff pages are sensitive."""
PLAIN = {
    "tenants.Tenant",
    "tenants.Plan",
    "audit.Witness",
    "audit.WitnessRefusal",
    "audit.Dispute",
    "tenants.TenantConnector",
    "provisioning.Host",
    "provisioning.GuestImage",
    "provisioning.Runtime",
    "provisioning.Operation",
    "provisioning.DriftFinding",
    "breakglass.Mismatch",
    "breakglass.Webhook",
}
"""Models whose pages show how things are; a test wants each model of the staff's pages in one of the two."""


class ViewMiddleware:
    """Records looks at sensitive pages. Stands inside the audit context."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = self.get_response(request)
        if shows(response) and request.user.is_authenticated:
            self._record(request)
        return response

    def _record(self, request: HttpRequest) -> None:
        from portal.places import place_of  # reads models, which are not ready when middleware is imported

        what = shown_by(request)
        if not what:
            return
        place = place_of(request)
        target = place.target if place.target[0] else ("page", what)
        page = place.route.removesuffix("-live")
        # Staff's search of one tenant's entries is that tenant's to know, as its own page would be.
        tenant_id = place.tenant_id or getattr(request, SHOWN_TENANT, None)
        look = f"viewed:{request.user.pk}:{page}:{'-'.join(target)}:{tenant_id or ''}".replace(" ", "-")
        if caches["shared"].get(look):
            return
        with transaction.atomic():
            record(
                action="record.viewed",
                actor=Actor.of(request.user),
                tenant_id=tenant_id,
                target=target,
                data={"page": what, "route": place.route},
            )
        # After the entry: a look that could not be recorded is not taken for one that was.
        caches["shared"].set(look, 1, timeout=TOGETHER_SECONDS)


def shows(response: HttpResponse) -> bool:
    """Whether an answer has something to see: a page, also one that says what was wrong, or a document."""
    page = response.get("Content-Type", "").startswith("text/html")
    return not response.streaming and (response.status_code == 200 or (response.status_code == 400 and page))


def shown_by(request: HttpRequest) -> str:
    """What sensitive thing an answer shows; empty if none."""
    from portal.places import admin_model

    route = request.resolver_match.view_name if request.resolver_match else ""
    model = admin_model(route)
    return PAGES.get(route, "") or (MODELS.get(model._meta.label, "") if model else "")
