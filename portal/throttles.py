"""The plan's limit on API requests: of all members of a tenant together, on what concerns that tenant."""

from typing import TYPE_CHECKING, Any

from django.db.models import Q
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from audit.context import Actor
from portal.rates import API, RateExceeded, note_refusal, spend
from tenants.models import Tenant
from tenants.selectors import tenants_of_member

if TYPE_CHECKING:  # the module of views reads this one while it is itself being read
    from rest_framework.views import APIView


class TenantRateThrottle(BaseThrottle):
    """429 with ``Retry-After`` once a tenant has used up its minute. Strangers and staff spend none of it."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """True, or else raises.

        Raises:
            Throttled: the plan's limit is reached.
        """
        tenant = _tenant(request, view.kwargs)
        if tenant is None:
            return True
        try:
            spend(API, tenant.pk, tenant.plan.api_per_minute)
        except RateExceeded as refused:
            note_refusal(actor=Actor.of(request.user), tenant_id=tenant.pk, refused=refused)
            raise Throttled(refused.wait, str(refused)) from None
        return True


def _tenant(request: Request, named: dict[str, Any]) -> Tenant | None:
    """The tenant that the URL is about, if the caller is its member."""
    if "slug" in named:
        about = Q(slug=named["slug"])
    elif "pk" in named:
        about = Q(runtimes=named["pk"]) | Q(runtimes__operations=named["pk"])
    else:
        return None
    return tenants_of_member(request.user).filter(about).select_related("plan").first()
