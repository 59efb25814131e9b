"""Promises of rooms above this one that the no-go check looks at, too: nothing here imports those rooms."""

from collections.abc import Callable

Promise = Callable[[], tuple[bool, str]]
"""Whether it is kept now, and the evidence: what was looked at, or what is wrong; never a secret."""
PROMISES: dict[str, Promise] = {}


def promise(look: Promise) -> Promise:
    """Have ``look`` asked under its own name. It reads rows, and loads nothing that calls a guest or host."""
    PROMISES[look.__name__] = look
    return look
