"""Tenants, their plans and people, and what they have stored."""

from tenants.models.connectors import TenantConnector
from tenants.models.members import ConsentVersion, KeyringVersion, MemberKey, Signed
from tenants.models.plans import REQUESTS_RANGE, RESERVED_SLUGS, Plan, slug_validator
from tenants.models.registry import Membership, Tenant
from tenants.models.secrets import ConnectorSecret, TenantKey

__all__ = [
    "REQUESTS_RANGE",
    "RESERVED_SLUGS",
    "ConnectorSecret",
    "ConsentVersion",
    "KeyringVersion",
    "MemberKey",
    "Membership",
    "Plan",
    "Signed",
    "Tenant",
    "TenantConnector",
    "TenantKey",
    "slug_validator",
]
