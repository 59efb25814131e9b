"""The small root program in the guest: starts tenants' processes for the agent, which has no rights to do so."""
