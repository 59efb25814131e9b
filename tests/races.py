"""Several deeds at once, in threads with connections of their own."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection


def at_once(
    deeds: Sequence[Callable[[], Any]],
    refusal: type[Exception] | tuple[()] = (),
    said: Callable[[Any], Any] = str,
) -> list[Any]:
    """What each came to: its answer, or what ``said`` makes of its refusal. Anything else is raised."""
    gate, ends = threading.Barrier(len(deeds)), [None] * len(deeds)

    def run(place: int, deed: Callable[[], Any]) -> None:
        gate.wait(30)
        try:
            ends[place] = deed()
        except refusal as error:
            ends[place] = said(error)
        except BaseException as error:
            ends[place] = error  # type: ignore[call-overload]
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place, deed)) for place, deed in enumerate(deeds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return ends
