"""The parts that htmx fetches again: nothing new costs nothing, and no strange page lands in a part."""

import re
from typing import Any

import pytest

from provisioning.models import Operation, Runtime, Step
from tests.portal.conftest import Kind, Phase, State, World, make_operation

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true", "HX-Current-URL": "http://portal.localhost:8000/t/acme/?x=1"}


def seen(page: str) -> str:
    found = re.search(r'hx-get="(/t/acme/live/\?seen=[0-9a-f]{16})"', page)
    assert found
    return found[1]


def fetch(client: Any, url: str) -> Any:
    return client.get(url, headers=HTMX)


def test_what_has_not_changed_is_not_sent_again(world: World) -> None:
    """204: htmx leaves the page alone, so focus, selection and a pressed button stay."""
    client = world.client("owner")
    url = seen(client.get("/t/acme/").content.decode())
    assert fetch(client, url).status_code == 204
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(power="crashed")
    changed = fetch(client, url)
    assert changed.status_code == 200
    assert "Restart it." in changed.content.decode()
    assert fetch(client, seen(changed.content.decode())).status_code == 204


def test_the_pace_follows_the_work(world: World) -> None:
    """Every ten seconds when nothing goes on, every two while something does."""
    client = world.client("owner")
    assert 'hx-trigger="every 10s"' in client.get("/t/acme/").content.decode()
    operation = make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=2)
    assert 'hx-trigger="every 2s"' in fetch(client, "/t/acme/live/").content.decode()
    Operation.objects.filter(pk=operation.pk).update(state=State.SUCCEEDED)
    assert 'hx-trigger="every 10s"' in fetch(client, "/t/acme/live/").content.decode()


@pytest.mark.parametrize("url", ["/t/acme/live/", "operation"])
def test_an_ended_session_leads_to_sign_in(world: World, url: str) -> None:
    """The whole page goes to the sign-in page and comes back; the part does not become a sign-in form."""
    operation = make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=2)
    url = f"/admin/provisioning/operation/{operation.pk}/steps/" if url == "operation" else url
    response = fetch(world.client("anonymous"), url)
    assert response.status_code == 200
    assert response.headers["HX-Redirect"] == "/sign-in/?next=/t/acme/"
    assert response.content == b""


@pytest.mark.parametrize(
    "current", ["", "https://evil.example//evil.example/", "javascript:alert(1)", "http://["]
)
def test_the_way_back_is_our_own(world: World, current: str) -> None:
    """A forged current URL is reduced to a path, which the sign-in page checks again."""
    headers = {"HX-Request": "true", "HX-Current-URL": current}
    response = world.client("anonymous").get("/t/acme/live/", headers=headers)
    assert response.headers["HX-Redirect"].startswith("/sign-in/?next=")
    after = world.client("anonymous").post(
        response.headers["HX-Redirect"], {"username": "stranger", "password": "correct horse battery"}
    )
    assert after.status_code == 302
    assert after["Location"].startswith("/")
    assert not after["Location"].startswith("//")


@pytest.mark.parametrize("url", ["/t/zebra/live/", "operation"])
def test_what_is_gone_reloads_the_page(world: World, url: str) -> None:
    """A membership that ended while the page was open: the reload shows Not found, and polling ends."""
    if url == "operation":
        operation = make_operation(world.other.runtime, Kind.RESTART, State.RUNNING, done=2)
        response = fetch(world.client("half staff"), f"/admin/provisioning/operation/{operation.pk}/steps/")
    else:
        response = fetch(world.client("owner"), url)
    assert response.headers["HX-Refresh"] == "true"
    assert response.content == b""


def test_an_operation_that_is_over_is_fetched_whole(world: World) -> None:
    """The steps' part reloads the page once, which then polls no more and offers no cancel button."""
    operation = make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=2)
    client = world.client("operator")
    page, part = (f"/admin/provisioning/operation/{operation.pk}/{end}/" for end in ("change", "steps"))
    assert f'hx-get="{part}"' in client.get(page).content.decode()
    assert 'hx-trigger="every 2s"' in fetch(client, part).content.decode()
    Operation.objects.filter(pk=operation.pk).update(state=State.SUCCEEDED)
    assert fetch(client, part).headers["HX-Refresh"] == "true"
    assert "hx-get" not in client.get(page).content.decode()


def show(world: World, role: str = "owner") -> str:
    return world.client(role).get("/t/acme/").content.decode()


def buttons(page: str) -> list[str]:
    return re.findall(r'name="kind" value="(\w+)"', page)


@pytest.mark.parametrize(
    ("phase", "power", "offered", "told"),
    [
        (Phase.READY, "running", ["stop", "restart"], ""),
        (Phase.READY, "crashed", ["stop", "restart"], "Restart it."),
        (Phase.STOPPED, "off", ["start"], "Your files are kept. Start it when you need it."),
        (Phase.FAILED, "off", ["start", "stop", "restart"], "Try again with a button above."),
        (Phase.QUARANTINED, "off", [], "An operator looks at it"),
    ],
)
def test_each_state_shows_what_can_be_done(
    world: World, phase: str, power: str, offered: list[str], told: str
) -> None:
    """Its name, the buttons that would work, and the next step in words."""
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(phase=phase, power=power)
    page = show(world)
    assert f'<span class="badge {phase}">' in page
    assert buttons(page) == offered
    assert told in page


def test_a_failure_is_shown_with_its_cause(world: World) -> None:
    """The last operation's message, and what to do."""
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(phase=Phase.FAILED)
    make_operation(
        world.mine.runtime, Kind.START, State.FAILED, done=3, error_message="The image is damaged."
    )
    page = show(world)
    assert "The image is damaged." in page
    assert "If it fails again, ask an operator." in page
    assert "Ask an operator: this needs a look at the host." in show(world, "member")


def test_an_operation_under_way_takes_the_buttons_away(world: World) -> None:
    """Its steps are shown instead, with what is waited for and since when."""
    operation = make_operation(
        world.mine.runtime, Kind.RESTART, State.RUNNING, done=2, wait_reason="Waiting for a start slot."
    )
    Operation.objects.filter(pk=operation.pk).update(waiting_since=operation.created_at)
    page = show(world)
    assert buttons(page) == []
    assert page.count('<li class="done">') == 2
    assert re.search(r"Waiting for a start slot\. <span class=\"since\">So far \d+ s\.</span>", page)


def test_a_steps_trouble_is_shown_until_it_is_done(world: World) -> None:
    """What a step said while it was tried again; not after it has succeeded."""
    operation = make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=2)
    Step.objects.filter(operation=operation, index__in=[1, 2]).update(detail="The host is busy.")
    assert show(world).count("The host is busy.") == 1


def test_a_simulated_machine_says_so(world: World) -> None:
    """Where the engine is libvirt's test driver, and only there."""
    assert "Simulated: this is not a real machine." in show(world)
    host = world.mine.runtime.host
    assert host is not None
    host.engine = "qemu"
    host.save()
    assert "Simulated" not in show(world)


def test_a_page_that_waits_for_the_machine_asks_more_often(world: World) -> None:
    """Closed, and not confirmed yet: the reader waits for the guest's word."""
    client = world.client("owner")
    assert b"every 10s" in client.get("/t/acme/").content
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(access_closed_by="owner")
    assert b"every 2s" in client.get("/t/acme/").content
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(access_closed_seen=True)
    assert b"every 10s" in client.get("/t/acme/").content
