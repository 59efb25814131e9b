"""What the views about one tenant share: the tenant in scope, and one shape of refusals."""

from django.contrib.auth.models import User
from django.http import Http404
from rest_framework import status
from rest_framework.response import Response
from rest_framework.views import APIView

from portal.api.parsing import BoundedJSONParser
from tenants.models import Tenant
from tenants.selectors import tenants_for
from tenants.services.refusals import Refused


class TenantView(APIView):
    """A view below ``tenants/<slug>/``."""

    parser_classes = (BoundedJSONParser,)

    def person(self) -> User:
        """The caller."""
        user = self.request.user
        if not isinstance(user, User):
            raise Http404
        return user

    def tenant(self, slug: str) -> Tenant:
        """The tenant, if the caller may know of it; else 404."""
        found = tenants_for(self.request.user).filter(slug=slug).first()
        if found is None:
            raise Http404
        return found

    def handle_exception(self, exc: Exception) -> Response:
        """A service's refusal: 403 for who asks, 409 for what was asked."""
        if not isinstance(exc, Refused):
            return super().handle_exception(exc)
        forbidden = exc.code == Refused.NOT_ALLOWED
        return Response(
            {"code": exc.code, "detail": str(exc)},
            status.HTTP_403_FORBIDDEN if forbidden else status.HTTP_409_CONFLICT,
        )
