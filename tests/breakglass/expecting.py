"""Refusals by their codes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from breakglass.refusals import TicketRefused


@contextmanager
def refused(*codes: str) -> Iterator[None]:
    """What stands in the block is refused, by one of these codes."""
    with pytest.raises(TicketRefused) as caught:
        yield
    assert caught.value.code in codes, f"{caught.value.code}: {caught.value}"
    assert str(caught.value)[-1] in ".?", "an error is a sentence that says what to change"
