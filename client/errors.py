"""What ends a command. Each text is one sentence or two for the person, and carries no secret."""


class Failure(Exception):
    """The command cannot go on."""


class Unreachable(Failure):
    """The request was never sent."""


class Unanswered(Failure):
    """The request may have arrived; nobody knows what became of it."""


class WrongAnswer(Failure):
    """An answer that the other side would never give if it kept to the protocol."""


class Refused(Failure):
    """The other side said no. ``code`` is for machines, and empty where there is none."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    @property
    def final(self) -> bool:
        """Whether it is certain that nothing was changed."""
        return 400 <= self.status < 500
