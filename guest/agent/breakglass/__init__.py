"""Break-glass: what operators may do in this guest under a ticket that approvers signed (docs/adr/0038)."""
