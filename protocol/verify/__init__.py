"""The standalone verifier: ``python -m protocol.verify``. No Django, no database, no network.

The one part of the protocol that reads files. All it needs is the ``protocol`` folder and ``cryptography``.
"""
