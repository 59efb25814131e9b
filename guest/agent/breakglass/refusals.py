"""How break-glass says no."""


class BreakGlassRefused(Exception):
    """A request that is not served; the message names what to change.

    ``status`` is HTTP's, ``code`` for machines.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
