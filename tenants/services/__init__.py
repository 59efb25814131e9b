"""Every write to the registry, to what members have signed, and to what they have sealed."""

from tenants.services.connectors import (
    connector_allow,
    connector_disable,
    connector_enable,
    connector_forbid,
)
from tenants.services.keyrings import consent_accept, keyring_accept
from tenants.services.keys import key_forget, key_register, key_remove
from tenants.services.offboarding import tenant_offboard
from tenants.services.refusals import ConnectorRefused, MembersRefused, SecretRefused
from tenants.services.registry import (
    TenantError,
    membership_add,
    membership_remove,
    plan_save,
    tenant_change,
    tenant_create,
    tenant_plan_set,
)
from tenants.services.secrets import secret_put, secret_revoke
from tenants.services.tenant_keys import tenant_key_ask_rotation, tenant_key_ensure, tenant_key_rotate

__all__ = [
    "ConnectorRefused",
    "MembersRefused",
    "SecretRefused",
    "TenantError",
    "connector_allow",
    "connector_disable",
    "connector_enable",
    "connector_forbid",
    "consent_accept",
    "key_forget",
    "key_register",
    "key_remove",
    "keyring_accept",
    "membership_add",
    "membership_remove",
    "plan_save",
    "secret_put",
    "secret_revoke",
    "tenant_change",
    "tenant_create",
    "tenant_key_ask_rotation",
    "tenant_key_ensure",
    "tenant_key_rotate",
    "tenant_offboard",
    "tenant_plan_set",
]
