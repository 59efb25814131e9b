"""A portal behind nginx, and a way to speak to it as a program would."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.nginx import free_port, proxy


@dataclass
class Portal:
    """The portal's origin and what lies behind it."""

    port: int
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://portal.localhost:{self.port}"

    def origin(self, slug: str) -> str:
        return f"http://{slug}.portal.localhost:{self.port}"

    def ask(self, host: str, method: str, path: str, **more: Any) -> httpx.Response:
        """One request to ``host`` (such as ``acme.portal.localhost``), by way of nginx."""
        headers = {"Host": f"{host}:{self.port}", **more.pop("headers", {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, url, headers=headers, timeout=30, trust_env=False, **more)


@pytest.fixture
def portal(live_server: Any, settings: Any, tmp_path: Path, transactional_db: None) -> Iterator[Portal]:
    """nginx before the live server. Its port is part of every origin, so it is chosen before any runtime is."""
    found = Portal(free_port())
    settings.BASE_URL = found.base
    policy = copy.deepcopy(settings.CONTENT_SECURITY_POLICY)
    policy["DIRECTIVES"]["form-action"] = ["'self'", found.base.replace("://", "://*.", 1)]
    settings.CONTENT_SECURITY_POLICY = policy
    web = live_server.url.partition("//")[2].replace("localhost", "127.0.0.1")
    with proxy(tmp_path / "proxy", found.port, web):
        yield found
