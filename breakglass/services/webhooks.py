"""Addresses that are told of tickets. Only a process with the wrapping key adds one: it makes the key."""

import secrets

from django.db import transaction
from django.db.models.functions import Now

from audit.context import Actor
from audit.services import record
from audit.witness_urls import url_problem
from breakglass.models import Webhook
from breakglass.refusals import TicketRefused
from provisioning.wrapping import unwrap, wrap
from tenants.models import Tenant

MAX_URL = 500
MAX_NAME = 80


@transaction.atomic
def webhook_add(*, actor: Actor, name: str, url: str, tenant: Tenant | None = None) -> tuple[Webhook, str]:
    """Register an address: of one tenant, told of its tickets, or of the approvers, told of all.

    Answers the row, and the key in hex, which is told once and kept wrapped.

    Raises:
        TicketRefused: ``bad_name`` or ``bad_url``.
        WrappingError: this process holds no wrapping key.
    """
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise TicketRefused("bad_name", f"Give a name of 1 to {MAX_NAME} printable characters.")
    if len(url) > MAX_URL or url_problem(url):
        raise TicketRefused("bad_url", url_problem(url) or f"Give a URL of {MAX_URL} characters or fewer.")
    audience = Webhook.Audience.TENANT if tenant else Webhook.Audience.APPROVERS
    key = secrets.token_bytes(32)
    hook = Webhook.objects.create(name=name, url=url, key=b"", audience=audience, tenant=tenant)
    hook.key = wrap(key, identity=_identity(hook))
    hook.save(update_fields=["key"])
    _record("webhook.added", actor, hook)
    return hook, key.hex()


@transaction.atomic
def webhook_retire(*, actor: Actor, webhook: Webhook) -> None:
    """Tell it nothing more, and forget its key. Raises TicketRefused: ``retired`` already."""
    taken = Webhook.objects.filter(pk=webhook.pk, retired_at=None).update(retired_at=Now(), key=b"")
    if taken != 1:
        raise TicketRefused("retired", "This webhook is retired already.")
    _record("webhook.retired", actor, webhook)


def key_of(webhook: Webhook) -> bytes:
    """For the HMAC. Raises WrappingError: not in this process, or retired."""
    return unwrap(webhook.key, identity=_identity(webhook))


def _identity(webhook: Webhook) -> str:
    return f"webhook/{webhook.pk}/key"


def _record(action: str, actor: Actor, webhook: Webhook) -> None:
    record(
        action=action,
        actor=actor,
        tenant_id=webhook.tenant_id,
        target=("webhook", webhook.pk),
        data={"kind": webhook.audience},
    )
