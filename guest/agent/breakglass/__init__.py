"""Break-glass: what an operator may do in this guest under a ticket that approvers have signed (docs/adr/0038)."""
