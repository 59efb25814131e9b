"""Names in the browser: the portal's, which is the relying party of every passkey, and each tenant's own."""

from urllib.parse import urlsplit

from django.conf import settings

from protocol.persons import Site
from tenants.models import Tenant


def rp_id() -> str:
    """The portal's base domain: one passkey serves the portal and every origin below it."""
    return urlsplit(settings.BASE_URL).hostname or ""


def tenant_origin(tenant: Tenant) -> str:
    """The origin of the tenant's runtime: ``<slug>.<base>``, beside the portal's."""
    scheme, _, place = settings.BASE_URL.partition("://")
    return f"{scheme}://{tenant.slug}.{place}"


def site(tenant: Tenant) -> Site:
    """Where an owner may have signed a keyring or consent with a passkey. The guest holds the same."""
    return Site(rp_id(), frozenset({settings.BASE_URL, tenant_origin(tenant)}))
