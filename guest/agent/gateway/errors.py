"""How the gateway's routes say no."""


class GatewayRefused(Exception):
    """It does not start or is not reached now. ``code`` is for machines; the message says what to change."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
