"""What can be asked of the portal to change something: read from the program itself, never from a list."""

from django.db import transaction
from django.test import Client
from django.urls import get_resolver

from portal import runtime_urls
from tests.portal.conftest import World
from tests.portal.routes import Route, _walk, routes

METHODS = ("post", "put", "patch", "delete")
PUBLIC = {"sign-in", "api-sign-in", "api-sign-in-challenge"}
ENDS_SESSIONS = {"sign-out", "admin:logout", "admin:password_change"}


def origin_routes() -> list[Route]:
    """The routes of a runtime's origin."""
    return list(_walk(get_resolver(runtime_urls.__name__), "/", ""))


def askers(route: Route) -> tuple[str, ...]:
    """Who, between them, may do everything that anybody may do there."""
    if route.name in PUBLIC:
        return ("anonymous",)
    if route.path.startswith("/break-glass/"):
        return ("requester", "approver", "superuser")
    return ("superuser",) if route.path.startswith("/admin/") else ("owner", "superuser")


def taken(world: World) -> set[tuple[str, str]]:
    """Each route with each verb, other than looking, that it takes from somebody.

    Of the staff's pages only POST: Django looks at nothing else there (test_routes.py has a test for it).
    """
    roles = ("anonymous", "owner", "requester", "approver", "superuser")
    clients = {role: world.client(role) for role in roles}
    found = set()
    for route in routes():
        for method in METHODS[:1] if route.path.startswith("/admin/") else METHODS:
            for role in askers(route):
                if takes(clients[role], route.url(world.mine), method):
                    found.add((route.name, method))
                if route.name in ENDS_SESSIONS:
                    clients[role] = world.client(role)
    for route in origin_routes():
        for method in METHODS:
            if takes(clients["owner"], route.path, method, "acme.portal.localhost"):
                found.add((route.name, method))
    return found


def takes(client: Client, url: str, method: str, host: str = "portal.localhost") -> bool:
    """Whether the verb is neither unknown there nor refused. What it did is undone."""
    json = {"content_type": "application/json"} if url.startswith("/api/") else {}
    with transaction.atomic():
        answer = getattr(client, method)(url, headers={"Host": host}, **json)
        transaction.set_rollback(True)
    return answer.status_code not in {401, 403, 404, 405}
