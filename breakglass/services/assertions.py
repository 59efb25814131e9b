"""What the services of tickets have in common when they take a passkey's signature."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from django.db import transaction

from breakglass.refusals import TicketRefused, in_sentences
from breakglass.services.passkeys import clones_noted

P = ParamSpec("P")
R = TypeVar("R")
FIELDS = ("kind", "by", "client_data", "authenticator_data", "signature")


def one_deed(service: Callable[P, R]) -> Callable[P, R]:
    """A service in one transaction; a copied key is noted even though nothing else is."""

    @functools.wraps(service)
    def in_one(*args: P.args, **kwargs: P.kwargs) -> R:
        with transaction.atomic():
            return service(*args, **kwargs)

    return in_sentences(clones_noted(in_one))


def kept(signature: Mapping[str, Any]) -> dict[str, Any]:
    """A passkey's signature as it is stored, without anything beside it.

    Raises:
        TicketRefused: ``malformed``.
    """
    found = {name: signature.get(name) for name in FIELDS}
    # Hexadecimal and base64url: nothing that a database would refuse to hold.
    plain = all(isinstance(each, str) and each.isascii() and each.isprintable() for each in found.values())
    if found["kind"] != "passkey" or not plain:
        raise TicketRefused("malformed", "The signature is not a passkey's. Sign again.")
    return found
