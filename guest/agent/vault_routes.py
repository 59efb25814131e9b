"""The handlers of the vault. The portal delivers and withdraws; no route gives a value to anybody."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from guest.agent.answers import json_members
from guest.agent.vault import Vault


class VaultRoutes:
    """Handlers, bound to this guest's vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def handlers(self) -> dict[tuple[str, str], Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        """As in ``gate.ACCESS``."""
        return {
            ("GET", "/v1/secrets"): self.state,
            ("PUT", "/v1/secrets"): self.deliver,
            ("POST", "/v1/secrets/revoke"): self.revoke,
            ("POST", "/v1/secrets/export"): self.export,
            ("POST", "/v1/sealing-key/rotate"): self.rotate,
            ("POST", "/v1/sealing-key/retire"): self.retire,
            ("GET", "/v1/vault"): self.state,
        }

    async def state(self, _request: web.Request) -> web.Response:
        return web.json_response(self._vault.statement())

    async def deliver(self, request: web.Request) -> web.Response:
        given = await json_members(request, "name", "version", "key_id", "sealed")
        return web.json_response(self._vault.deliver(*given))

    async def revoke(self, request: web.Request) -> web.Response:
        return web.json_response(self._vault.revoke(*await json_members(request, "name", "version")))

    async def export(self, request: web.Request) -> web.Response:
        return web.json_response(self._vault.export(*await json_members(request, "name")))

    async def rotate(self, request: web.Request) -> web.Response:
        return web.json_response(self._vault.rotate(*await json_members(request, "from")))

    async def retire(self, request: web.Request) -> web.Response:
        return web.json_response(self._vault.retire(*await json_members(request, "id")))
