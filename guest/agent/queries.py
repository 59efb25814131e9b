"""The query of a request, read strictly."""

from urllib.parse import parse_qsl

from aiohttp import web

from guest.agent.answers import BadRequest


def query(request: web.Request, *names: str) -> dict[str, str]:
    """The members of the query, each at most once. Read from what was signed, not from what became of it.

    Raises:
        BadRequest: it has other members than ``names``, one twice, or is no query at all.
    """
    text = request.raw_path.partition("?")[2]
    try:
        text.encode("ascii")
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=8
        )
    except ValueError:
        raise BadRequest("the query must be name=value, percent-encoded UTF-8") from None
    found = dict(pairs)
    if len(found) != len(pairs) or not found.keys() <= set(names):
        raise BadRequest(f"the query may have, once each: {', '.join(names)}")
    return found


def whole_number(name: str, text: str) -> int:
    """What the member ``name`` says. Raises BadRequest."""
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise BadRequest(f"{name} must be a whole number from 0")
    return int(text)
