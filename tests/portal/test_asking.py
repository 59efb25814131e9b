"""Asking for an operation, on the page and through the API: who may, what is answered, what is written."""

import base64
import json
from typing import Any

import pytest

from audit.models import Entry
from provisioning.models import Operation, Runtime, Step
from provisioning.sequences import SEQUENCES
from tests.audit.opened import opened
from tests.portal.conftest import Kind, Phase, State, World, make_operation
from tests.portal.tickets import without_machine

pytestmark = pytest.mark.django_db
OWNERS = [("stop", Phase.READY), ("restart", Phase.READY), ("start", Phase.STOPPED)]
NOT_OWNERS = ["create", "rebuild", "delete", "force_delete"]
REASON = "because of a test"


def by_page(world: World, role: str, kind: str) -> Any:
    return world.client(role).post(f"/t/{world.mine.tenant.slug}/operations/", {"kind": kind})


def by_api(world: World, role: str, body: object, content_type: str = "application/json") -> Any:
    url = f"/api/v1/runtimes/{world.mine.runtime.pk}/operations/"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return world.client(role).generic("POST", url, data, content_type=content_type)


def asked() -> "list[Operation]":
    return list(Operation.objects.filter(state__in=Operation.ACTIVE))


@pytest.mark.parametrize(("kind", "phase"), OWNERS)
@pytest.mark.parametrize("way", ["page", "api"])
def test_an_owner_starts_stops_and_restarts(world: World, way: str, kind: str, phase: str) -> None:
    """The operation, its steps and the entry are written; the page leads back to itself, the API shows the row."""
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(phase=phase)
    if way == "page":
        response = by_page(world, "owner", kind)
        assert (response.status_code, response["Location"]) == (302, "/t/acme/")
    else:
        response = by_api(world, "owner", {"kind": kind})
        assert response.status_code == 201
        assert response.json()["kind"] == kind
        assert [step["name"] for step in response.json()["steps"]] == [s.name for s in SEQUENCES[kind]]
    (operation,) = asked()
    assert (operation.kind, operation.requested_by) == (kind, world.people["owner"])
    assert Step.objects.filter(operation=operation).count() == len(SEQUENCES[kind])
    entry = Entry.objects.get(action="operation.requested")
    assert (entry.target_id, entry.actor_id) == (str(operation.pk), str(world.people["owner"].pk))


@pytest.mark.parametrize("kind", NOT_OWNERS)
@pytest.mark.parametrize("role", ["owner", "member"])
def test_owners_do_not_rebuild_or_delete(world: World, role: str, kind: str) -> None:
    """403 on both ways, and nothing is written."""
    assert by_api(world, role, {"kind": kind, "reason": REASON}).status_code == 403
    assert by_page(world, role, kind).status_code == 403
    assert asked() == []
    assert not Entry.objects.filter(action="operation.requested").exists()


@pytest.mark.parametrize("kind", ["start", "stop", "restart"])
def test_members_look_only(world: World, kind: str) -> None:
    """A member has no button for the machine or its access, and what they would send is refused."""
    page = world.client("member").get("/t/acme/").content
    assert b'<button form="ask"' not in page
    assert b'<button form="access"' not in page
    assert by_api(world, "member", {"kind": kind}).status_code == 403
    assert by_page(world, "member", kind).status_code == 403
    assert asked() == []


@pytest.mark.parametrize("role", ["half staff", "operator"])
def test_staff_may_delete_with_a_reason(world: World, role: str) -> None:
    """Staff who operate the tenant may; without a reason they are told to give one."""
    refused = by_api(world, role, {"kind": "delete"})
    assert (refused.status_code, refused.json()["detail"]) == (409, "Give a reason of 10 characters or more.")
    assert by_api(world, role, {"kind": "delete", "reason": REASON}).status_code == 201
    assert asked()[0].reason == REASON


def test_what_cannot_be_now_is_a_conflict_with_its_reason(world: World) -> None:
    """API: 409 and why. Page: the same words, on the page one is led back to."""
    response = by_api(world, "owner", {"kind": "start"})
    assert (response.status_code, response.json()["detail"]) == (409, "A runtime that is ready cannot start.")
    client = world.client("owner")
    page = client.post("/t/acme/operations/", {"kind": "start"}, follow=True).content.decode()
    assert "A runtime that is ready cannot start." in page
    assert asked() == []


def test_a_second_request_waits_for_the_first(world: World) -> None:
    """One operation at a time."""
    make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=1)
    response = by_api(world, "owner", {"kind": "stop"})
    assert response.status_code == 409
    assert "still going on" in response.json()["detail"]
    assert len(asked()) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"null", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"stop"', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"kind": "explode"}', "application/json", 400),
        (b'{"kind": ["stop"]}', "application/json", 400),
        (b'{"kind": {"a": 1}}', "application/json", 400),
        (b'{"kind": null}', "application/json", 400),
        (b'{"kind": "stop\\u0000"}', "application/json", 400),
        (b'{"kind": "stop", "reason": "a\\u0000b"}', "application/json", 400),
        (b'{"kind": "stop", "reason": "\\ud800"}', "application/json", 400),
        (b'{"kind": "stop", "reason": "' + b"x" * 501 + b'"}', "application/json", 400),
        (b'{"kind": "stop", "reason": "' + b"x" * 2_000_000 + b'"}', "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b'{"kind": ' + b"9" * 60_000 + b"}", "application/json", 400),
        (b'{"kind": NaN}', "application/json", 400),
        (b"kind=stop", "application/x-www-form-urlencoded", 415),
        (b"<kind>stop</kind>", "application/xml", 415),
        (b"--x\r\n", "multipart/form-data; boundary=x", 415),
        (b'{"kind": "stop"', "application/json; charset=no-such", 400),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, bytes) else None,
)
def test_malformed_requests_are_told_so(world: World, body: bytes, content_type: str, expected: int) -> None:
    """Never a 500, never a traceback, nothing written; the answer says what is wrong."""
    response = by_api(world, "owner", body, content_type)
    assert response.status_code == expected, response.content[:300]
    assert b"could not be read" in response.content or response.json()
    assert b"Traceback" not in response.content
    assert asked() == []


def test_unicode_in_a_reason_is_kept(world: World) -> None:
    """Letters outside ASCII, and a decomposed one, have a canonical form in the record."""
    reason = "Neu auf Wunsch: Müller, e\u0301, 日本"
    assert by_api(world, "operator", {"kind": "rebuild", "reason": reason}).status_code == 201
    entry = Entry.objects.get(action="operation.requested")
    assert opened(entry)["reason"].endswith("Müller, é, 日本")
    assert "Müller" not in entry.event


@pytest.mark.parametrize(
    "url",
    [
        "/api/v1/runtimes/not-a-uuid/",
        "/api/v1/runtimes/%00/",
        "/api/v1/operations/00000000-0000-0000-0000-00000000000g/",
        "/api/v1/runtimes/?cursor=garbage",
        "/api/v1/runtimes/?cursor=" + base64.b64encode(b"p=garbage").decode(),
        "/api/v1/runtimes/?cursor=" + base64.b64encode(b"p=%00").decode(),
        "/api/v1/runtimes/?cursor=" + base64.b64encode(b"o=99999999999999999999").decode(),
        "/api/v1/runtimes/?format=xml",
        "/t/%00/",
        "/t/acme%00/",
        "/t/" + "a" * 5000 + "/",
        "/t/../",
        "/admin/provisioning/runtime/not-a-uuid/change/",
        "/admin/provisioning/runtime/%00/change/",
        "/admin/provisioning/runtime/?q=%00",
        "/admin/provisioning/runtime/?phase__exact=%00",
        "/admin/provisioning/runtime/?host__id__exact=nonsense",
        "/admin/provisioning/runtime/?tenant__slug__startswith=a",
        "/admin/provisioning/runtime/?volume_key__startswith=a",
        "/admin/provisioning/runtime/?o=99.-99",
        "/admin/provisioning/runtime/?p=99999",
        "/admin/audit/entry/?at__year=nonsense",
        "/admin/audit/entry/?at__year=99999999",
        "/admin/auth/user/99999999999999999999999/password/",
        "/admin/auth/group/x/change/",
        "/admin/tenants/plan/%FF/change/",
        "/admin/autocomplete/?app_label=x&model_name=y&field_name=z",
    ],
)
def test_malformed_urls_are_no_fault_of_ours(world: World, url: str) -> None:
    """Nonsense in a path or a query: not found, forbidden, bad request, or a plain list; never a 500."""
    response = world.client("superuser").get(url)
    assert response.status_code < 500
    assert b"Traceback" not in response.content


@pytest.mark.parametrize("kind", ["", "explode", "stop\x00", "x" * 100_000])
def test_the_page_refuses_unknown_kinds_in_words(world: World, kind: str) -> None:
    """Back to the page, which says what there is to choose."""
    response = world.client("owner").post("/t/acme/operations/", {"kind": kind}, follow=True)
    assert response.status_code == 200
    assert "Choose start, stop or restart." in response.content.decode()
    assert asked() == []


def test_a_body_beyond_the_limit_is_refused_on_pages_too(world: World) -> None:
    """Two megabytes for a button: 400, plainly."""
    response = world.client("owner").post("/t/acme/operations/", {"kind": "x" * 2_000_000})
    assert response.status_code == 400
    assert b"Traceback" not in response.content


def test_a_tenant_without_a_machine_has_nothing_to_ask_for(world: World) -> None:
    """The page says that an operator creates it; a request for it is 404."""
    without_machine(world.mine.runtime)
    client = world.client("owner")
    assert "No machine yet" in client.get("/t/acme/").content.decode()
    assert client.post("/t/acme/operations/", {"kind": "start"}).status_code == 404
