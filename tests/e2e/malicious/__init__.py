"""A control plane that has turned, in parts; tests/e2e/malicious_portal.py is where to begin."""
