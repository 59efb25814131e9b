"""Connector secrets over the API: what each person gets, and every status."""

import base64
from typing import Any

import pytest
from nacl import encoding, public

from audit.models import Entry
from protocol.sealed import key_id, seal
from provisioning.models import Runtime
from tenants.models import ConnectorSecret, TenantKey
from tenants.services.secret_states import secret_held, secret_open, secret_refused
from tests.portal.conftest import SEALED, SEALING_KEY, World

pytestmark = pytest.mark.django_db
URL = "/api/v1/tenants/acme/secrets/"
GUEST = public.PrivateKey(bytes(range(32)))


def body(sealed: bytes = SEALED, **more: Any) -> dict[str, Any]:
    return {
        "encrypted_value": base64.b64encode(sealed).decode(),
        "key_id": key_id(SEALING_KEY),
        "connector": "github",
        **more,
    }


def put(world: World, given: Any, role: str = "owner", name: str = "API_TOKEN") -> Any:
    return world.client(role).put(f"{URL}{name}/", given, content_type="application/json")


def encrypt(public_key: str, secret_value: str) -> str:
    """As the documentation of GitHub Actions secrets has its callers do it, in words of our own."""
    box = public.SealedBox(public.PublicKey(public_key.encode(), encoding.Base64Encoder))
    return base64.b64encode(box.encrypt(secret_value.encode())).decode()


def test_as_users_of_github_know_it(world: World) -> None:
    """Ask for the key, seal with PyNaCl, put; what is kept opens with the guest's key alone."""
    client = world.client("owner")
    key = client.get(f"{URL}public-key/").json()
    assert key == {"key_id": key_id(SEALING_KEY), "key": base64.b64encode(SEALING_KEY).decode()}
    given = {"encrypted_value": encrypt(key["key"], "ghp_example"), "key_id": key["key_id"]}
    answer = client.put(f"{URL}API_TOKEN/", given, content_type="application/json")
    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["name"], shown["version"], shown["state"]) == ("API_TOKEN", 1, "waiting")
    kept = secret_open(ConnectorSecret.objects.get(name="API_TOKEN"))
    assert public.SealedBox(GUEST).decrypt(kept) == b"ghp_example"


def test_the_list_has_one_entry_for_each_name(world: World) -> None:
    """The newest version, and the one that the machine holds; never a ciphertext."""
    secret_held(world.mine.secret)
    assert put(world, body(), name="GITHUB_TOKEN").status_code == 200
    assert put(world, body()).status_code == 201
    answer = world.client("member").get(URL).json()
    assert answer["total_count"] == 2
    shown = [(one["name"], one["version"], one["state"], one["held_version"]) for one in answer["secrets"]]
    assert shown == [("API_TOKEN", 1, "waiting", None), ("GITHUB_TOKEN", 2, "waiting", 1)]
    assert set(answer["secrets"][0]) == {
        *("name", "connector", "version", "state", "held_version", "key_id"),
        *("refusal", "advice", "created_by", "created_at", "changed_at"),
    }
    assert world.client("owner").get(f"{URL}API_TOKEN/").json() == answer["secrets"][0]
    assert world.client("owner").get(f"{URL}NEVER_WAS/").status_code == 404


@pytest.mark.parametrize(("role", "status"), [("owner", 201), ("member", 403), ("operator", 403)])
def test_who_puts(world: World, role: str, status: int) -> None:
    """Owners. Staff may not, whatever they operate."""
    answer = put(world, body(), role)
    assert answer.status_code == status
    assert status == 201 or answer.json()["code"] == "not_allowed"


@pytest.mark.parametrize(
    ("role", "status"), [("owner", 200), ("member", 403), ("operator", 200), ("stranger", 404)]
)
def test_who_revokes(world: World, role: str, status: int) -> None:
    """Owners and operators; 404 for whom there is no such tenant."""
    answer = world.client(role).delete(f"{URL}GITHUB_TOKEN/")
    assert answer.status_code == status
    world.mine.secret.refresh_from_db()
    assert world.mine.secret.state == ("revoking" if status == 200 else "waiting")


def test_revoking_what_never_was(world: World) -> None:
    assert world.client("owner").delete(f"{URL}NEVER_WAS/").status_code == 404


def test_somebody_elses_secret(world: World) -> None:
    """404 for every verb, and nothing happens."""
    client = world.client("owner")
    theirs = "/api/v1/tenants/zebra/secrets/"
    for answer in (
        client.get(theirs),
        client.get(f"{theirs}public-key/"),
        client.get(f"{theirs}GITHUB_TOKEN/"),
        client.put(f"{theirs}GITHUB_TOKEN/", body(), content_type="application/json"),
        client.delete(f"{theirs}GITHUB_TOKEN/"),
    ):
        assert answer.status_code == 404
    world.other.secret.refresh_from_db()
    assert (world.other.secret.state, ConnectorSecret.objects.count()) == ("waiting", 2)


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"encrypted_value": "not base64!"}, 400, "standard base64"),
        ({"encrypted_value": ""}, 400, "may not be blank"),
        ({"encrypted_value": base64.b64encode(b"x" * 48).decode()}, 409, "bad_value"),
        ({"encrypted_value": "A" * 60_000}, 400, "no more than"),
        ({"encrypted_value": 7}, 400, "standard base64"),
        ({"encrypted_value": {}}, 400, "Not a valid string"),
        ({"key_id": "0" * 16}, 409, "unknown_key"),
        ({"key_id": "x" * 17}, 400, "no more than 16"),
        ({"connector": "gitlab"}, 409, "bad_connector"),
        ({"padding": "x" * 70_000}, 400, "at most 65536 bytes"),
    ],
)
def test_what_is_refused(world: World, change: Any, status: int, told: str) -> None:
    """Each with words that say what to change, and nothing written."""
    answer = put(world, body(**change))
    assert answer.status_code == status
    assert told in answer.content.decode()
    assert not ConnectorSecret.objects.filter(name="API_TOKEN").exists()


@pytest.mark.parametrize("name", ["lower", "A-B", "A" * 65, "1A"])
def test_a_bad_name(world: World, name: str) -> None:
    answer = put(world, body(), name=name)
    assert (answer.status_code, answer.json()["code"]) == (409, "bad_name")


def test_before_the_machine_has_stated_a_key(world: World) -> None:
    """There is nothing to seal to."""
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(sealing_public_key="")
    client = world.client("owner")
    for answer in (client.get(f"{URL}public-key/"), put(world, body())):
        assert (answer.status_code, answer.json()["code"]) == (409, "no_key")


def test_before_the_tenant_has_a_key(world: World) -> None:
    """A worker makes it within seconds."""
    TenantKey.objects.filter(tenant=world.mine.tenant).update(state="destroyed", private_key=None)
    assert put(world, body()).json()["code"] == "no_tenant_key"


def test_a_refusal_of_the_machine_says_what_to_do(world: World) -> None:
    """With its code and advice."""
    secret_refused(world.mine.secret, "unknown_key")
    (shown,) = world.client("owner").get(URL).json()["secrets"]
    assert (shown["state"], shown["refusal"]) == ("refused", "unknown_key")
    assert "Save it again" in shown["advice"]


def test_writing_is_throttled(world: World, settings: Any) -> None:
    """Thirty a minute; reading goes on."""
    client = world.client("owner")
    statuses = [
        client.put(f"{URL}lower/", body(), content_type="application/json").status_code for _ in range(31)
    ]
    assert statuses == [409] * 30 + [429]
    assert client.get(URL).status_code == 200


def test_another_site_cannot_write(world: World) -> None:
    """CSRF is checked, as for every session."""
    client = world.client("owner", csrf=True)
    answer = client.put(f"{URL}API_TOKEN/", body(), content_type="application/json")
    assert answer.status_code == 403


def test_the_record_names_the_person(world: World) -> None:
    """Put and revoked, by whom; the ciphertext in no form."""
    put(world, body())
    world.client("operator").delete(f"{URL}API_TOKEN/")
    entries = list(Entry.objects.filter(target_id="API_TOKEN/1").order_by("pk"))
    people = [str(world.people[role].pk) for role in ("owner", "operator")]
    assert [(e.action, e.actor_id) for e in entries] == list(
        zip(("secret.put", "secret.revoked"), people, strict=True)
    )
    text = "".join(Entry.objects.values_list("event", flat=True))
    assert base64.b64encode(SEALED).decode()[:40] not in text
    assert SEALED.hex()[:40] not in text


def test_sealing_makes_something_new_each_time() -> None:
    """So that nobody sees in the database who uses the same secret."""
    assert seal(SEALING_KEY, b"x") != seal(SEALING_KEY, b"x")
