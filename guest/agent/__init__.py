"""The program in the tenant's machine: the only thing that listens on its network."""

AGENT_VERSION = "0.1.0"
