"""Reading requests and forming answers: JSON both ways, bounded in size and time, errors in one shape."""

import asyncio
import errno
import json
import logging
import sqlite3
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from guest.agent.beneath import WorkspaceRefused
from guest.agent.breakglass.refusals import BreakGlassRefused
from guest.agent.enrolment import EnrolmentRefused
from guest.agent.gateway.errors import GatewayRefused
from guest.agent.jobs.records import JobRefused
from guest.agent.members import MembersRefused
from guest.agent.sessions import SessionRefused
from guest.agent.trust import TrustRefused
from guest.agent.vault_requests import VaultRefused

BODY_LIMIT = 64 * 1024
PATIENCE = web.AppKey("patience", float)
"""Seconds that a body may take to arrive."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class TooLarge(Exception):
    """The body has more bytes than ``limit``."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit


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
    except Exception as failure:
        answer = answer_to(failure)
        if answer.status in {500, 507} and not isinstance(failure, _REFUSALS):
            # Only the kind is logged: a message could repeat what the caller sent.
            _log.error("%s %s failed: %s", request.method, request.path, type(failure).__name__)
        return answer


_REFUSALS = (WorkspaceRefused, JobRefused, BreakGlassRefused, EnrolmentRefused, VaultRefused, GatewayRefused)
"""Each says its own status and code."""
_OTHERS = {MembersRefused: 403, TrustRefused: 409}
"""Each says its own code; their status, unless they are malformed."""


def answer_to(failure: Exception) -> web.Response:
    """What is answered if a handler raises ``failure``."""
    if isinstance(failure, _REFUSALS):
        return error(failure.status, failure.code, str(failure))
    if isinstance(failure, MembersRefused | TrustRefused):
        status = 422 if failure.code == "malformed" else _OTHERS[type(failure)]
        return error(status, failure.code, str(failure))
    if isinstance(failure, BadRequest):
        return error(400, "bad_request", str(failure))
    if isinstance(failure, SessionRefused):
        return error(403, failure.code, "sign the challenge with a member's key")
    if isinstance(failure, TooLarge):
        return _closing(error(413, "too_large", f"at most {failure.limit} bytes"))
    if isinstance(failure, web.HTTPException):
        return error(failure.status, failure.reason.lower().replace(" ", "_"), failure.reason)
    if isinstance(failure, TimeoutError):
        return _closing(error(408, "too_slow", "the body did not arrive in time"))
    if is_about_the_disk(failure):
        return error(507, "disk_full", "the machine's disk is full; delete something first")
    return error(500, "internal", "the agent failed; see its log")


def is_about_the_disk(failure: Exception) -> bool:
    """Whether a full volume is what failed. SQLite then cannot even read: the journal's index needs room."""
    if isinstance(failure, sqlite3.OperationalError):
        return getattr(failure, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
    return isinstance(failure, OSError) and failure.errno in {errno.ENOSPC, errno.EDQUOT}


async def body_of(request: web.Request, limit: int = BODY_LIMIT) -> bytes:
    """The whole body, if it arrives in time; aiohttp keeps it for whoever asks again.

    Raises:
        TimeoutError: it does not. Its answer is 408.
        TooLarge: it has more than ``limit`` bytes. Its answer is 413.
    """
    if (request.content_length or 0) > limit:
        raise TooLarge(limit)
    try:
        async with asyncio.timeout(request.app[PATIENCE]):
            body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(limit) from None
    if len(body) > limit:
        raise TooLarge(limit)
    return body


async def json_fields(request: web.Request, *names: str) -> list[str]:
    """The text members ``names`` of the request's JSON object, which must have exactly these.

    Raises:
        BadRequest: the body is something else.
    """
    return [_typed(name, value, str, "text") for name, value in await _members(request, names)]


async def json_objects(request: web.Request, *names: str) -> list[dict[str, Any]]:
    """The object members ``names`` of the request's JSON object, which must have exactly these.

    Raises:
        BadRequest: the body is something else.
    """
    return [_typed(name, value, dict, "an object") for name, value in await _members(request, names)]


async def json_signed(request: web.Request, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The document ``name`` and its list of ``signatures``, of which the JSON object must consist.

    Raises:
        BadRequest: the body is something else.
    """
    (_, document), (_, signatures) = await _members(request, (name, "signatures"))
    each = [
        _typed("signatures", one, dict, "a list of objects")
        for one in _typed("signatures", signatures, list, "a list")
    ]
    return _typed(name, document, dict, "an object"), each


async def json_flag(request: web.Request, name: str) -> bool:
    """The one member ``name``, true or false. Raises BadRequest."""
    ((_, value),) = await _members(request, (name,))
    return _typed(name, value, bool, "true or false")


async def json_members(request: web.Request, *names: str) -> list[Any]:
    """The members ``names`` of the request's JSON object, of whatever kind; it must have exactly these.

    Raises:
        BadRequest: the body is something else.
    """
    return [value for _, value in await _members(request, names)]


async def _members(request: web.Request, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    try:
        document: Any = json.loads(await body_of(request))
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(document, dict) or set(document) != set(names):
        raise BadRequest(f"the body must be an object with exactly: {', '.join(names)}")
    return [(name, document[name]) for name in names]


def _typed(name: str, value: Any, kind: type[T], words: str) -> T:
    if not isinstance(value, kind):
        raise BadRequest(f"{name} must be {words}")
    return value


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
