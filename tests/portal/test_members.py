"""Members' keys, keyring and consents on the API and the page: what is answered, to whom, and what is refused."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.test import Client
from django.utils import timezone

from audit.models import Entry
from protocol.persons import Purpose
from provisioning.models import Runtime
from tenants.models import ConsentVersion, KeyringVersion, MemberKey
from tests.portal.authenticator import cose_of, cose_of_ed25519, cose_of_rsa, creation
from tests.portal.conftest import World, device_of
from tests.portal.test_rule_1 import break_record, everything
from tests.protocol.people import RECOVERY, Passkey, entry, keyring

pytestmark = pytest.mark.django_db
API = "/api/v1/tenants/acme/"
SEALING = "ab" * 32
NO_REQUESTS: list[Any] = [{}, [], "x", {"document": [], "signature": {}}, {"document": {}, "signature": "x"}]


def send(client: Client, path: str, body: Any, method: str = "post") -> Any:
    return getattr(client, method)(API + path, body, content_type="application/json")


def signed(world: World, document: Any, purpose: Purpose, by: str = "owner-of-acme") -> dict[str, Any]:
    return {"document": document, "signature": device_of(by).sign(purpose, document)}


def second(world: World, *more: Any) -> Any:
    """The keyring that follows the fixture's."""
    owner = entry(device_of("owner-of-acme").key, name="The owner's terminal")
    kept = world.mine.keyring
    return keyring(str(world.mine.tenant.pk), owner, *more, version=2, previous=kept.hash)


def states(world: World, **changes: Any) -> None:
    """The guest has stated the fixture's keyring, but for ``changes``."""
    stated = {
        "version": 1,
        "hash": world.mine.keyring.hash,
        "fingerprints": [world.mine.key.fingerprint],
        "recovery": RECOVERY.key.fingerprint,
        **changes,
    }
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(
        stated={
            "keyring": None if "none" in changes else stated,
            "consents": {"version": 1, "agents": True, "always_on": False},
            "sealing_public_key": SEALING,
        },
        stated_at=timezone.now(),
    )


@pytest.mark.parametrize("role", ["owner", "member", "half staff", "operator"])
def test_what_a_signer_needs(world: World, role: str) -> None:
    """The document, its signature, every registered key, and what the guest states; the same for all in scope."""
    states(world)
    told = world.client(role).get(f"{API}keyring/").json()
    assert told["tenant_id"] == str(world.mine.tenant.pk)
    assert (told["rp_id"], told["origin"]) == ("portal.localhost", "http://acme.portal.localhost:8000")
    assert told["role"] == {"owner": "owner", "member": "member"}.get(role, "operator")
    kept = world.mine.keyring
    assert told["current"] == {
        "version": 1,
        "hash": kept.hash,
        "document": kept.document,
        "signature": kept.signature,
    }
    assert told["consents"]["document"]["agents"] is True
    (key,) = told["registered"]
    assert (key["fingerprint"], key["user"], key["role"]) == (
        world.mine.key.fingerprint,
        "owner-of-acme",
        "owner",
    )
    assert (key["mine"], key["in_keyring"], key["credential_id"]) == (role == "owner", True, "")
    assert told["guest"]["sealing_public_key"] == SEALING
    assert told["guest_agrees"] is True


def test_whether_the_guest_agrees(world: World) -> None:
    """Nothing said: null. Another keyring, or none: false."""
    owner = world.client("owner")

    def told() -> tuple[Any, Any]:
        answer = owner.get(f"{API}keyring/").json()
        return answer["guest_agrees"], answer["guest"] and answer["guest"]["version"]

    assert told() == (None, None)
    states(world, hash="0" * 64)
    assert told() == (False, 1)
    states(world, none=True)
    assert told() == (False, None)
    states(world)
    assert told() == (True, 1)


def test_an_owner_adds_a_member(world: World) -> None:
    """Registered by the member, signed by the owner, kept, on record; then it can be taken out and deleted."""
    device = device_of("member")
    made = send(
        world.client("member"),
        "keys/",
        {"kind": "device", "name": "Terminal", "public_key": device.key.public_key.hex()},
    )
    assert made.status_code == 201
    assert {**made.json(), "created_at": ""} == {
        "fingerprint": device.key.fingerprint,
        "kind": "device",
        "public_key": device.key.public_key.hex(),
        "credential_id": "",
        "name": "Terminal",
        "user": "member",
        "role": "member",
        "mine": True,
        "in_keyring": False,
        "created_at": "",
    }
    owner = world.client("owner")
    document = second(world, entry(device.key, "member"))
    answer = send(owner, "keyring/", signed(world, document, Purpose.KEYRING))
    kept = KeyringVersion.objects.get(version=2)
    assert (answer.status_code, answer.json()) == (200, {"version": 2, "hash": kept.hash})
    path = f"keys/{device.key.fingerprint}/"
    refused = send(owner, path, None, "delete")
    assert (refused.status_code, refused.json()["code"]) == (409, "in_keyring")
    third = {**second(world), "version": 3, "previous": kept.hash}
    assert send(owner, "keyring/", signed(world, third, Purpose.KEYRING)).status_code == 200
    assert send(world.client("member"), path, None, "delete").status_code == 204
    assert send(owner, path, None, "delete").status_code == 404


def test_refusals_have_one_shape(world: World) -> None:
    """409 with the protocol's code and a sentence; 403 for who may not; 400 for what is no request."""
    owner = world.client("owner")
    forked = {**second(world), "previous": "0" * 64}
    answer = send(owner, "keyring/", signed(world, forked, Purpose.KEYRING))
    assert (answer.status_code, answer.json()) == (
        409,
        {
            "code": "forked",
            "detail": "It has changed meanwhile. Reload the page, look again, and sign anew.",
        },
    )
    for role in ("member", "operator", "half staff", "superuser"):
        client = world.client(role)
        for path, purpose in (("keyring/", Purpose.KEYRING), ("consents/", Purpose.CONSENT)):
            answer = send(client, path, signed(world, second(world), purpose))
            assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    for role in ("operator", "superuser"):
        key = {"kind": "device", "name": "x", "public_key": device_of("x").key.public_key.hex()}
        assert send(world.client(role), "keys/", key).status_code == 403
        path = f"keys/{world.mine.key.fingerprint}/"
        assert send(world.client(role), path, None, "delete").status_code == 403
    for path in ("keyring/", "consents/"):
        for body in NO_REQUESTS:
            assert send(owner, path, body).status_code == 400, (path, body)
    assert KeyringVersion.objects.filter(tenant=world.mine.tenant).count() == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "device", "name": "x"},
        {"kind": "device", "name": "x", "public_key": "AB" * 32},
        {"kind": "device", "name": "x", "public_key": "ab" * 31},
        {"kind": "device", "name": "", "public_key": "ab" * 32},
        {"kind": "passkey", "name": "x", "public_key": "ab" * 32},
        {"kind": "passkey", "name": "x", "credential": "x"},
        {"kind": "recovery", "name": "x", "public_key": "ab" * 32},
    ],
)
def test_what_is_no_key_is_a_bad_request(world: World, body: Any) -> None:
    """400 that names the field."""
    answer = send(world.client("owner"), "keys/", body)
    assert answer.status_code == 400
    assert answer.json().keys() <= {"kind", "name", "public_key", "credential"}


def test_consents_through_the_api(world: World) -> None:
    """The version is answered."""
    document = {**world.mine.consents.document, "version": 2, "always_on": True}
    answer = send(world.client("owner"), "consents/", signed(world, document, Purpose.CONSENT))
    assert (answer.status_code, answer.json()) == (200, {"version": 2})
    assert ConsentVersion.objects.get(tenant=world.mine.tenant, version=2).document == document


def offered(client: Client) -> Any:
    answer = send(client, "keys/options/", {})
    assert answer.status_code == 200
    return answer.json()


def answered(client: Client, credential: Any) -> Any:
    return send(client, "keys/", {"kind": "passkey", "name": "Laptop", "credential": credential})


def test_the_options_for_a_passkey(world: World) -> None:
    """Verified user, no attestation, our two algorithms, a random handle and challenge, what is known left out."""
    client, passkey = world.client("member"), Passkey()
    first, again = offered(client), offered(client)
    assert (first["rp"]["id"], first["user"]["name"]) == ("portal.localhost", "member")
    assert first["authenticatorSelection"]["userVerification"] == "required"
    assert first["authenticatorSelection"]["residentKey"] == "required"
    assert [one["alg"] for one in first["pubKeyCredParams"]] == [-7, -8]
    assert first["attestation"] == "none"
    assert first["challenge"] != again["challenge"]
    assert first["user"]["id"] != again["user"]["id"]
    assert first["excludeCredentials"] == []
    assert answered(client, creation(again["challenge"], cose_of(passkey))).status_code == 201
    assert [one["id"] for one in offered(client)["excludeCredentials"]] == ["Y3JlZGVudGlhbA"]


def test_a_passkey_is_kept_as_its_public_key(world: World) -> None:
    """As SubjectPublicKeyInfo, for ES256 and EdDSA; with that, the guest checks what it signs."""
    client, passkey, edwards = world.client("member"), Passkey(), Ed25519PrivateKey.generate()
    made = answered(client, creation(offered(client)["challenge"], cose_of(passkey))).json()
    assert (made["public_key"], made["fingerprint"]) == (
        passkey.key.public_key.hex(),
        passkey.key.fingerprint,
    )
    assert made["credential_id"] == "Y3JlZGVudGlhbA"
    told = answered(
        client,
        creation(offered(client)["challenge"], cose_of_ed25519(edwards), credential_id=b"second"),
    )
    der = edwards.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert told.json()["public_key"] == der.hex()


def test_lies_of_a_passkey_are_refused(world: World) -> None:
    """Another origin, party, challenge, purpose or algorithm; a user who was not verified; nonsense."""
    client, cose = world.client("member"), cose_of(Passkey())
    rsa_key = cose_of_rsa(rsa.generate_private_key(65537, 2048).public_key())
    lies: list[Any] = [
        lambda challenge: creation(challenge, cose, origin="http://acme.portal.localhost:8000"),
        lambda challenge: creation(challenge, cose, origin="http://evil.example"),
        lambda challenge: creation(challenge, cose, rp_id="evil.example"),
        lambda challenge: creation("AAAA", cose),
        lambda challenge: creation(challenge, cose, type="webauthn.get"),
        lambda challenge: creation(challenge, cose, flags=0x41),
        lambda challenge: creation(challenge, cose, flags=0x44),
        lambda challenge: creation(challenge, rsa_key),
        lambda challenge: creation(challenge, {**cose, -1: 2}),
        lambda challenge: creation(challenge, {**cose, -2: bytes(32)}),
        lambda challenge: creation(challenge, cose, credential_id=b"x" * 1024),
        lambda challenge: {**creation(challenge, cose), "response": {}},
        lambda challenge: {**creation(challenge, cose), "response": 7},
        lambda challenge: {**creation(challenge, cose), "rawId": "AAAA"},
        lambda challenge: {"id": 1},
        lambda challenge: {},
    ]
    for number, lie in enumerate(lies):
        answer = answered(client, lie(offered(client)["challenge"]))
        assert (answer.status_code, answer.json()["code"]) == (409, "bad_passkey"), number
    assert not MemberKey.objects.filter(kind="passkey").exists()


def test_a_challenge_is_good_once_and_in_its_session(world: World) -> None:
    """Not twice, not after a failure, not in another browser, not without one."""
    client, other = world.client("member"), world.client("owner")
    good = creation(offered(client)["challenge"], cose_of(Passkey()))
    assert answered(other, good).status_code == 409
    offered(other)
    assert answered(other, good).status_code == 409
    assert answered(client, good).status_code == 201
    assert answered(client, good).json()["detail"].startswith("This page has waited too long.")
    late = creation(offered(client)["challenge"], cose_of(Passkey()), credential_id=b"late")
    assert answered(client, {}).status_code == 409
    assert answered(client, late).status_code == 409


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["keys/", "keyring/", "consents/", "delete"])
def test_without_its_entry_nothing_changes(world: World, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Rule 1 on every route here that changes something."""
    owner = world.client("owner")
    spare = {"kind": "device", "name": "x", "public_key": device_of("spare").key.public_key.hex()}
    assert send(owner, "keys/", spare).status_code == 201
    consents = {**world.mine.consents.document, "version": 2, "always_on": True}
    bodies = {
        "keys/": {**spare, "public_key": device_of("other").key.public_key.hex()},
        "keyring/": signed(world, second(world), Purpose.KEYRING),
        "consents/": signed(world, consents, Purpose.CONSENT),
    }

    def deed() -> int:
        if path == "delete":
            answer = send(owner, f"keys/{device_of('spare').key.fingerprint}/", None, "delete")
        else:
            answer = send(owner, path, bodies[path])
        return int(answer.status_code)

    before = everything()
    with monkeypatch.context() as patch:
        break_record(patch)
        assert deed() == 500
    assert everything() == before
    assert deed() < 300
    newest = Entry.objects.exclude(action="record.viewed").latest("pk")  # the answer shows the members
    assert newest.action.split(".")[0] in {"key", "keyring", "consent"}
    assert newest.actor_id == str(world.people["owner"].pk)


def page(world: World, role: str) -> str:
    return world.client(role).get("/t/acme/members/").content.decode()


def test_the_page_says_what_to_do_next(world: World) -> None:
    """One sentence for each kind of reader."""
    for role, words in (
        ("operator", "You can look at this page. Owners and members change it."),
        ("member", "First register a passkey on this device, or add a device key."),
        ("owner", "No passkey of yours signs here. Sign with the command line."),
    ):
        assert words in page(world, role)
    made = {"kind": "device", "name": "Terminal", "public_key": device_of("member").key.public_key.hex()}
    assert send(world.client("member"), "keys/", made).status_code == 201
    assert "Ask an owner to add your key." in page(world, "member")


def test_the_page_shows_no_button_to_those_who_may_not(world: World) -> None:
    """Operators read; members register; only an owner with a passkey in the keyring signs."""
    operator, member, owner = (page(world, role) for role in ("operator", "member", "owner"))
    assert "data-do=" not in operator
    assert 'data-do="passkey"' in member
    for deed in ("include", "exclude", "consent", "prepare"):
        assert f'data-do="{deed}"' not in member
        assert f'data-do="{deed}"' not in owner


def test_the_page_compares_with_the_machine(world: World) -> None:
    """Not said yet, stated, not stated; and a refusal in words."""
    assert page(world, "owner").count("has not said yet") == 2
    states(world)
    assert page(world, "owner").count("✓ states it") == 2
    states(world, hash="0" * 64, fingerprints=["1" * 64])
    told = page(world, "owner")
    assert "✗ does not state it" in told
    assert "The machine states another keyring than this page (version 1)." in told
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(members_refused="forked")
    assert "The machine does not take this keyring or consent (forked)." in page(world, "owner")


def test_the_tenants_page_leads_here(world: World) -> None:
    """For everybody who sees it."""
    for role in ("owner", "member", "operator"):
        assert 'href="/t/acme/members/"' in world.client(role).get("/t/acme/").content.decode()
