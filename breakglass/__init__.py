"""Break-glass tickets and approvals. Not built yet: no ticket can be opened and no guest answers to one."""
