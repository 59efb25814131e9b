"""Disputes on the staff's pages: the evidence, and who looked into it. The portal adds the scope."""

from django.contrib import admin
from django.utils.html import format_html

from audit.admin_alarms import AlarmAdmin, OpenFilter
from audit.context import Actor
from audit.disputes import dispute_acknowledge
from audit.models import Dispute
from protocol.notes import encode


class DisputeAdmin(AlarmAdmin[Dispute]):
    """Checkpoints with the log's own signature that the log does not continue."""

    list_display = ("at", "size", "tenant_id", "looked_into")
    list_filter = (OpenFilter,)
    list_select_related = ("acknowledgement",)
    fields = ("at", "tenant_id", "size", "shown_root", "checkpoint", "looked_into")
    readonly_fields = fields
    consequence = (
        "Only who holds the log's key can sign such a checkpoint: the record was set back or rewritten, or "
        "the key is stolen. Run manage.py audit_verify, find out which, and say here what you found. "
        "The evidence stays."
    )

    def end_alarm(self, actor: Actor, row: Dispute, reason: str) -> None:
        """By the service."""
        dispute_acknowledge(actor=actor, dispute=row, reason=reason)

    @admin.display(description="root")
    def shown_root(self, obj: Dispute) -> str:
        """In base64, as checkpoints write it."""
        return encode(bytes(obj.root))

    @admin.display(description="the checkpoint that was shown")
    def checkpoint(self, obj: Dispute) -> str:
        """The evidence."""
        return format_html('<pre class="vkey">{}</pre>', obj.note)
