"""Tickets, who may approve them, who has, and what guests say of them."""

from breakglass.models.notices import Notice, Webhook
from breakglass.models.people import (
    PERSON,
    ApproverSetVersion,
    GuestApprovers,
    Passkey,
    SetProposal,
    SetSignature,
    TenantApprovers,
    TermsVersion,
)
from breakglass.models.records import Intent, Mismatch, Receipt, ReceiptHead
from breakglass.models.tickets import Approval, OwnerApproval, Rejection, Review, Revision, Ticket

__all__ = [
    "PERSON",
    "Approval",
    "ApproverSetVersion",
    "GuestApprovers",
    "Intent",
    "Mismatch",
    "Notice",
    "OwnerApproval",
    "Passkey",
    "Receipt",
    "ReceiptHead",
    "Rejection",
    "Review",
    "Revision",
    "SetProposal",
    "SetSignature",
    "TenantApprovers",
    "TermsVersion",
    "Ticket",
    "Webhook",
]
