"""The typed reason that a change asks for which nobody can take back."""

REASON_MINIMUM = 10
REASON_MAXIMUM = 500
"""Characters."""


def reason_problem(reason: str) -> str:
    """What is wrong with a reason, in words for its author; empty if nothing is."""
    length = len(reason.strip())
    if length < REASON_MINIMUM:
        return f"Give a reason of {REASON_MINIMUM} characters or more."
    if length > REASON_MAXIMUM:
        return f"Give a reason of {REASON_MAXIMUM} characters or fewer."
    return ""
