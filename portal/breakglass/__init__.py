"""Break-glass in the browser: the pages of requesters, approvers and tenants. Thin callers of ``breakglass``."""
