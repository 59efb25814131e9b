"""What this room tells its own parts and the room above it. All are sent inside the transaction."""

from django.dispatch import Signal

ticket_changed = Signal()
"""Ticket ``ticket_id`` is in ``state`` from now on, if the transaction holds."""

approvers_changed = Signal()
"""There is a next approver set; or, with ``tenant_id``, that tenant's owner has named one."""

terms_changed = Signal()
"""An owner of ``tenant_id`` has signed other terms."""
