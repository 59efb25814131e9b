"""Break-glass in the browser: pages of requesters, approvers and tenants. Thin callers of ``breakglass``."""
