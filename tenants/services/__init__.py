"""Every write to the registry, and to what members have signed."""

from tenants.services.keyrings import consent_accept, keyring_accept
from tenants.services.keys import key_register, key_remove
from tenants.services.refusals import MembersRefused
from tenants.services.registry import (
    TenantError,
    membership_add,
    membership_remove,
    plan_save,
    tenant_change,
    tenant_create,
)

__all__ = [
    "MembersRefused",
    "TenantError",
    "consent_accept",
    "key_register",
    "key_remove",
    "keyring_accept",
    "membership_add",
    "membership_remove",
    "plan_save",
    "tenant_change",
    "tenant_create",
]
