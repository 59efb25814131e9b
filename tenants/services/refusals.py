"""Why a key, keyring or consent is not taken."""


class MembersRefused(Exception):
    """Nothing was written. ``code`` is for machines; the message says what to change."""

    NOT_ALLOWED = "not_allowed"
    """The code of every refusal that is about who asks, not about what was sent."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
