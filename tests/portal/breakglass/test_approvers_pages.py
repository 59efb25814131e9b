"""Passkeys and approver sets over HTTP: who gets in, and that nothing the browser sends is believed."""

import json
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from breakglass.models import ApproverSetVersion, Passkey, SetProposal
from breakglass.people import usable_passkeys
from portal.breakglass.set_form import SetForm
from portal.breakglass.set_words import changes
from protocol.approvers import DEFAULT_POLICY, ApproverSet
from protocol.persons import Purpose
from tests.completeness.approver_cases import PHONE, proposed
from tests.portal.authenticator import cose_of, creation
from tests.portal.conftest import World
from tests.portal.tickets import authenticator
from tests.protocol.people import Passkey as Authenticator

pytestmark = pytest.mark.django_db
PAGES = ("/break-glass/keys/", "/break-glass/approvers/")
NEW = "/break-glass/approvers/new/"


def signature(world: World, document: Any, **lies: Any) -> str:
    device = authenticator(world.people["approver"])
    return json.dumps(device.sign(Purpose.APPROVERS, document, origin=settings.BASE_URL, **lies))


@pytest.fixture
def url(world: World) -> str:
    """Where the proposal that waits is signed."""
    proposed(world)
    return f"/break-glass/approvers/{SetProposal.objects.get().pk}/sign/"


def versions() -> int:
    return ApproverSetVersion.objects.count()


@pytest.mark.parametrize("role", ["stranger", "member", "owner"])
def test_customers_do_not_get_in(world: World, role: str) -> None:
    """Whatever tenant they belong to."""
    client = world.client(role)
    for page in (*PAGES, NEW):
        assert client.get(page).status_code == 403
        assert client.post(page).status_code in {403, 405}


@pytest.mark.parametrize(("role", "status"), [("half staff", 403), ("requester", 403), ("approver", 200)])
def test_who_may_propose(world: World, role: str, status: int) -> None:
    """Approvers, and staff with the permission; all staff may look."""
    client = world.client(role)
    assert client.get(NEW).status_code == status
    assert client.get(PAGES[1]).status_code == 200
    assert (b"Propose a change" in client.get(PAGES[1]).content) == (status == 200)


def test_the_page_names_no_tenant_out_of_scope(world: World) -> None:
    """Which machines believe the set: of the reader's own tenants."""
    half = world.client("half staff").get(PAGES[1]).content.decode()
    assert world.mine.tenant.name in half
    assert world.other.tenant.name not in half
    assert world.other.tenant.name in world.client("superuser").get(PAGES[1]).content.decode()


def test_a_signature_without_its_first_step(world: World, url: str) -> None:
    """Nothing was kept, so nothing can have been signed here."""
    document = SetProposal.objects.get().document
    answer = world.client("approver").post(url, {"signature": signature(world, document)})
    assert (answer.status_code, versions()) == (409, 1)


def test_what_the_browser_says_of_the_document_is_not_read(world: World, url: str) -> None:
    """It signs another set, and sends that along: the portal looks at its own."""
    client = world.client("approver")
    asked = client.post(url).json()
    assert asked["document"] == SetProposal.objects.get().document
    other = {**asked["document"], "threshold": 2}
    answer = client.post(url, {"signature": signature(world, other), "document": json.dumps(other)})
    assert answer.status_code == 409
    assert "signature is not taken" in answer.json()["detail"]
    assert versions() == 1


def test_an_answer_counts_once(world: World, url: str) -> None:
    """What was kept is used up, also by a refused answer."""
    client = world.client("approver")
    asked = client.post(url).json()
    wrong = signature(world, asked["document"], flags=0x01)
    assert client.post(url, {"signature": wrong}).status_code == 409
    right = signature(world, asked["document"])
    assert client.post(url, {"signature": right}).status_code == 409
    client.post(url)
    assert client.post(url, {"signature": right}).json() == {"next": PAGES[1]}
    assert versions() == 2


def test_only_keys_of_the_set_are_offered(world: World, url: str) -> None:
    """The browser is asked for those that may sign; a superuser has none, and signs nothing."""
    (key,) = world.client("approver").post(url).json()["credentials"]
    assert key["fingerprint"] == Passkey.objects.get(user=world.people["approver"]).fingerprint
    client = world.client("superuser")
    document = client.post(url).json()
    assert document["credentials"] == []
    answer = client.post(url, {"signature": signature(world, document["document"])})
    assert (answer.status_code, versions()) == (409, 1)


@pytest.mark.parametrize("credential", ["", "x", "[]", "{}", "7", '{"id": 1}', "[" * 70_000])
def test_what_is_no_credential(world: World, credential: str) -> None:
    """Refused in words, and nothing is registered."""
    client, before = world.client("requester"), Passkey.objects.count()
    client.post("/break-glass/keys/options/")
    answer = client.post("/break-glass/keys/", {"name": "Phone", "credential": credential})
    assert answer.status_code == 409
    assert "Press the button again" in answer.json()["detail"]
    assert Passkey.objects.count() == before


def made(client: Client, **lies: Any) -> Any:
    asked = client.post("/break-glass/keys/options/").json()
    credential = creation(asked["challenge"], cose_of(PHONE), credential_id=b"phone", **lies)
    return client.post("/break-glass/keys/", {"name": "Phone", "credential": json.dumps(credential)})


@pytest.mark.parametrize(
    "lies", [{"origin": "http://acme.portal.localhost:8000"}, {"flags": 0x41}, {"rp_id": "localhost"}]
)
def test_a_passkey_from_elsewhere(world: World, lies: Any) -> None:
    """Made on a tenant's page, without a verified user, for another relying party."""
    assert made(world.client("requester"), **lies).status_code == 409
    assert made(world.client("requester")).status_code == 200


def test_a_challenge_is_good_once(world: World) -> None:
    """The same answer again is to none that waits; from another session it never was."""
    client = world.client("requester")
    asked = client.post("/break-glass/keys/options/").json()
    credential = json.dumps(creation(asked["challenge"], cose_of(PHONE), credential_id=b"phone"))
    form = {"name": "Phone", "credential": credential}
    assert world.client("approver").post("/break-glass/keys/", form).status_code == 409
    assert client.post("/break-glass/keys/", form).status_code == 200
    assert client.post("/break-glass/keys/", form).status_code == 409


def test_colleagues_do_not_retire_each_others(world: World) -> None:
    """Neither the key nor its page shows to those without the permission."""
    key = Passkey.objects.get(user=world.people["approver"])
    client = world.client("requester")
    assert client.post(f"/break-glass/keys/{key.pk}/retire/").status_code == 403
    assert key.fingerprint not in client.get(PAGES[0]).content.decode()
    key.refresh_from_db()
    assert key.retired_at is None


def test_a_set_that_was_proposed_meanwhile(world: World, url: str) -> None:
    """The same form again is refused above it, and nothing that was typed is lost."""
    form = {"threshold": "1", **dict.fromkeys(DEFAULT_POLICY, "1")}
    keys = list(usable_passkeys(world.people["approver"]).values_list("fingerprint", flat=True))
    answer = world.client("approver").post(NEW, {"keys": keys, **form})
    assert answer.status_code == 409
    page = answer.content.decode()
    assert "Just this set is proposed already." in page
    assert page.count("checked") == 1


@pytest.mark.parametrize("typed", ["", "0", "-1", "1.5", "x", "²", "99999"])
def test_what_is_no_number(world: World, typed: str) -> None:
    """Said beside its field; nothing is proposed."""
    keys = list(usable_passkeys().values_list("fingerprint", flat=True))
    form = {"threshold": "1", **dict.fromkeys(DEFAULT_POLICY, "1"), "exec": typed}
    answer = world.client("approver").post(NEW, {"keys": keys, **form})
    assert answer.status_code == 400
    assert next(iter(answer.context["numbers"][5])) == "exec"
    assert answer.context["numbers"][5][3]
    assert not SetProposal.objects.exists()


@pytest.mark.parametrize(("threshold", "words"), [("1", "1 person changes"), ("2", "2 people change")])
def test_more_than_change_the_set(world: World, threshold: str, words: str) -> None:
    """Who changes the set lowers its numbers: said beside the field, and nothing is proposed."""
    keys = list(usable_passkeys().values_list("fingerprint", flat=True))
    form = {"threshold": threshold, **dict.fromkeys(DEFAULT_POLICY, "1"), "exec": str(int(threshold) + 1)}
    answer = world.client("approver").post(NEW, {"keys": keys, **form})
    assert answer.status_code == 400
    assert answer.context["numbers"][5][3].startswith(f"{words} the set, and could lower this.")
    assert not SetProposal.objects.exists()


def test_keys_that_are_not_offered_are_not_taken(world: World) -> None:
    """A retired one, or any other text: as if it were not chosen."""
    Passkey.objects.filter(user=world.people["approver"]).update(retired_at="2026-01-01T00:00:00Z")
    gone = Passkey.objects.get(user=world.people["approver"]).fingerprint
    form = {"threshold": "1", **dict.fromkeys(DEFAULT_POLICY, "1")}
    answer = world.client("superuser").post(NEW, {"keys": [gone, "f" * 64, "x"], **form})
    assert answer.status_code == 400
    assert "Choose at least one passkey." in answer.content.decode()


def test_what_a_set_changes_is_said(world: World) -> None:
    """Who joins and leaves, whose keys change, and every number."""
    current = ApproverSet.parse(ApproverSetVersion.objects.get().document)
    first, second = current.document["approvers"]
    another = {**first, "public_key": PHONE.key.public_key.hex()}
    document = {
        **current.document,
        "approvers": [
            another,
            {
                **another,
                "person": "user:9",
                "name": "zoe",
                "public_key": Authenticator().key.public_key.hex(),
            },
        ],
        "policy": {**current.policy, "exec": 1},
    }
    proposed_set = ApproverSet.parse(document)
    had, has = next(iter(current.approvers)), list(proposed_set.approvers)
    assert changes(current, proposed_set) == [
        f"zoe joins, with {has[1][:16]}.",
        f"{second['name']} leaves.",
        f"{first['name']} gets the key {has[0][:16]}.",
        f"{first['name']} loses the key {had[:16]}.",
        "Commands: 1 person instead of 2.",
    ]
    assert changes(current, current) == []
    assert len(changes(None, current)) == 2


def test_a_first_form_has_our_defaults() -> None:
    """Two people change the set; one reads, two write or run."""
    form = SetForm.of(None)
    assert (form.threshold, form.policy) == (2, dict(DEFAULT_POLICY))
