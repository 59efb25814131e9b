from django.conf import settings
from django.db import models

from breakglass.models import Ticket
from tenants.models import Tenant


class RouteGrant(models.Model):
    """One browser's (or command line's) way to one runtime's origin, for as long as its portal session lasts.

    It begins as a ticket, good once and for seconds, and becomes a cookie on the runtime's origin.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    session_key = models.CharField(max_length=40, help_text="The portal session that it ends with.")
    secret_sha256 = models.CharField(max_length=64, unique=True, help_text="Of the ticket, then the cookie.")
    entered = models.BooleanField(default=False)
    expires_at = models.DateTimeField(db_index=True)
    break_glass = models.ForeignKey(
        Ticket,
        null=True,
        on_delete=models.CASCADE,
        related_name="+",
        help_text="An operator's way, to the break-glass page alone. None: a member's.",
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.user_id} to {self.tenant_id}"
