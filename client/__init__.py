"""The command-line client: a person's own program, which trusts neither the portal nor what it shows.

It holds a device key and what it has seen of each tenant's keyring. It imports the protocol and nothing else
of this repository (docs/adr/0012-client-room.md). How to use it: docs/client.md.
"""
