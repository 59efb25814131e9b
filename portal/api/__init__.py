"""The tenant's API, version 1. Scoped by the same selectors and served by the same services as the pages."""

from portal.api import (
    break_glass,
    connectors,
    egress,
    members,
    quotas,
    record,
    routing,
    runtimes,
    secrets,
    sign_in,
)

urlpatterns = [
    *runtimes.urlpatterns,
    *members.urlpatterns,
    *secrets.urlpatterns,
    *connectors.urlpatterns,
    *egress.urlpatterns,
    *quotas.urlpatterns,
    *record.urlpatterns,
    *break_glass.urlpatterns,
    *routing.urlpatterns,
    *sign_in.urlpatterns,
]
