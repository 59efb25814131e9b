"""What this room tells the rooms above it."""

from django.dispatch import Signal

members_changed = Signal()
"""A keyring or consent of ``tenant_id`` was accepted. Sent inside the transaction."""

secrets_changed = Signal()
"""``tenant_id`` has a connector secret to deliver or to revoke. Sent inside the transaction."""

connectors_changed = Signal()
"""What ``tenant_id`` may reach has changed. Sent inside the transaction, so that a receiver can note it there
and a lost message is the sweeper's business."""
