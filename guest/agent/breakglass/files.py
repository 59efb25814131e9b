"""The workspace for an operator: as members have it, but by the ticket's paths, which lead over no link."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from aiohttp import web

from guest.agent.breakglass.visits import visit_of
from guest.agent.content import GOING, Content
from guest.agent.workspace import Workspace

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Tally:
    """How much of a file went out or came in, and its digest: what the receipt says of it."""

    size: int = 0
    _hash: Any = field(default_factory=sha256)

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)

    def told(self) -> dict[str, Any]:
        return {"bytes": self.size, "sha256": self._hash.hexdigest()}


_TALLY = web.RequestKey("tally", Tally)


class Files:
    """Handlers, bound to this guest's workspace."""

    def __init__(self, workspace: Workspace, patience: float) -> None:
        """``patience``: the seconds that an upload may send nothing."""
        self._content = Content(workspace.without_links(), _passing, patience)

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """As in ``gate.ACCESS``."""
        content = self._content
        return {
            ("GET", "/v1/break-glass/list"): content.listing,
            ("GET", "/v1/break-glass/files"): _tallied(content.read),
            ("PUT", "/v1/break-glass/files"): _tallied(content.write),
            ("DELETE", "/v1/break-glass/files"): _counted(content.delete),
            ("POST", "/v1/break-glass/folders"): content.make_folder,
        }


def _tallied(handler: Handler) -> Handler:
    async def tallied(request: web.Request) -> web.StreamResponse:
        tally = request[_TALLY] = Tally()
        try:
            return await handler(request)
        finally:
            visit_of(request).done(**tally.told())

    return tallied


def _counted(handler: Handler) -> Handler:
    async def counted(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            if (going := request.get(GOING)) is not None:
                visit_of(request).done(removed=going.removed)

    return counted


def _passing(request: web.Request, data: bytes) -> None:
    visit_of(request).check()
    if (tally := request.get(_TALLY)) is not None:
        tally.add(data)
