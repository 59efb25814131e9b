"""Reading requests and forming answers: JSON both ways, bounded in size and time, errors in one shape."""

import asyncio
import json
import logging
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from guest.agent.enrolment import EnrolmentRefused

BODY_LIMIT = 64 * 1024
PATIENCE = web.AppKey("patience", float)
"""Seconds that a body may take to arrive."""

_log = logging.getLogger(__name__)


class BadRequest(Exception):
    """The request cannot be understood; the message names what to change."""


def error(status: int, code: str, message: str) -> web.Response:
    """The one shape of every refusal."""
    return web.json_response({"error": code, "message": message}, status=status)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into JSON without any inner detail."""
    try:
        return await handler(request)
    except BadRequest as refusal:
        return error(400, "bad_request", str(refusal))
    except EnrolmentRefused as refusal:
        return error(refusal.status, refusal.code, str(refusal))
    except web.HTTPRequestEntityTooLarge:
        return _closing(error(413, "too_large", f"at most {BODY_LIMIT} bytes"))
    except web.HTTPException as refusal:
        code = refusal.reason.lower().replace(" ", "_")
        return error(refusal.status, code, refusal.reason)
    except TimeoutError:
        return _closing(error(408, "too_slow", "the body did not arrive in time"))
    except Exception as failure:
        # Only the kind is logged: a message could repeat what the caller sent.
        _log.error("%s %s failed: %s", request.method, request.path, type(failure).__name__)
        return error(500, "internal", "the agent failed; see its log")


async def json_fields(request: web.Request, *names: str) -> list[str]:
    """The text members ``names`` of the request's JSON object, which must have exactly these.

    Raises:
        BadRequest: the body is something else.
    """
    async with asyncio.timeout(request.app[PATIENCE]):
        body = await request.read()
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(document, dict) or set(document) != set(names):
        raise BadRequest(f"the body must be an object with exactly: {', '.join(names)}")
    values = [document[name] for name in names]
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, str):
            raise BadRequest(f"{name} must be text")
    return values


def hexadecimal(name: str, text: str, size: int) -> bytes:
    """Decode ``size`` bytes of lower-case hexadecimal.

    Raises:
        BadRequest: it is something else.
    """
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size or value.hex() != text:
        raise BadRequest(f"{name} must be {size * 2} lower-case hexadecimal digits")
    return value


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response
