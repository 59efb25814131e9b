"""How break-glass says no."""


class BreakGlassRefused(Exception):
    """A request that is not served. ``status`` is HTTP's, ``code`` for machines; the message names what to change."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
