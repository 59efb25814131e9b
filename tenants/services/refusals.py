"""Why a key, keyring, consent or secret is not taken."""


class Refused(Exception):
    """Nothing was written. ``code`` is for machines; the message says what to change."""

    NOT_ALLOWED = "not_allowed"
    """The code of every refusal that is about who asks, not about what was sent."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class MembersRefused(Refused):
    """Of what members register and sign."""


class SecretRefused(Refused):
    """Of a connector secret."""


class ConnectorRefused(Refused):
    """Of what a tenant may reach."""
