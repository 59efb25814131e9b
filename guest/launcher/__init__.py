"""The small root program in the guest: starts tenants' processes for the agent, which has no such right."""
