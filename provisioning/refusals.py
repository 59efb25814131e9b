"""How a service says no."""

from django.core.exceptions import ValidationError


class OperationRefused(ValidationError):
    """An operation cannot be requested; the message says why and what to change."""


class PermissionRefused(OperationRefused):
    """The actor may not ask for this."""
