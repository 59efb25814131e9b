"""The runtimes' own origins in the browser: ``<slug>.<base>``, beside the portal's."""

from django.conf import settings

from tenants.models import Tenant


def runtime_origin(tenant: Tenant) -> str:
    """Scheme, host and port, such as ``http://acme.portal.localhost:8000``."""
    scheme, _, place = settings.BASE_URL.partition("://")
    return f"{scheme}://{tenant.slug}.{place}"
