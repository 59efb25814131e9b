"""The agent in front of the gateway: starts and stops it, hands it its secrets, carries requests to it."""
