"""Keys are changed while a guest runs: announced, used, finished; and nobody is locked out on the way."""

import io
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from audit.context import command
from audit.models import Entry
from protocol.enrolment import runtime_dns_name
from provisioning import trust as trust_module
from provisioning.fleet_keys import (
    State,
    Use,
    authorities,
    believed,
    fleet_key,
    private_pem,
    serial,
    token_seed,
)
from provisioning.kept_clients import ClientPool, KeptClient
from provisioning.models import FleetKey, Operation, Runtime
from provisioning.renewal import renew_certificates
from provisioning.rotation import RotationRefused, key_announce, key_finish, key_switch
from provisioning.runtime_client import (
    KEPT_SECONDS,
    AgentRefused,
    AgentUnreachable,
    ConnectionBroke,
    RuntimeClient,
)
from provisioning.trust import trust
from provisioning.wrapping import WrappingError
from tests.provisioning.workers import drain

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")


def tell(runtime: Runtime) -> None:
    """What the sweeper does for each guest that has not confirmed."""
    for waiting in trust_module.unconfirmed():
        trust_module.apply(waiting.pk)
    runtime.refresh_from_db()


def status(runtime: Runtime) -> Any:
    return RuntimeClient.dial(runtime, TESTER).status()


def test_a_fresh_guest_believes_what_it_should(runtime: Runtime) -> None:
    assert runtime.trust_seen == trust().hash == status(runtime)["trust"]
    assert runtime.certificate_issuer == serial(fleet_key(Use.CA))
    assert not trust_module.unconfirmed().exists()


def test_the_token_key(runtime: Runtime) -> None:
    """Announced, told, switched, finished: the guest answers after each move, and the old key is destroyed."""
    old = token_seed()
    announced = key_announce(actor=TESTER, use=Use.TOKEN)
    assert key_announce(actor=TESTER, use=Use.TOKEN).pk == announced.pk, "a second call makes no second key"
    assert token_seed() == old
    with pytest.raises(RotationRefused, match=str(runtime.pk)):
        key_switch(actor=TESTER, use=Use.TOKEN)
    tell(runtime)
    key_switch(actor=TESTER, use=Use.TOKEN)
    assert token_seed() != old
    assert status(runtime)["runtime_id"] == str(runtime.pk)
    (finished,) = key_finish(actor=TESTER, use=Use.TOKEN)
    assert (finished.state, bytes(finished.private_key)) == (State.RETIRED, b"")
    tell(runtime)
    assert status(runtime)["trust"] == trust().hash
    assert [key.pk for key in believed(Use.TOKEN)] == [announced.pk]


def test_a_token_of_the_old_key_is_refused_afterwards(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = token_seed()
    key_announce(actor=TESTER, use=Use.TOKEN)
    tell(runtime)
    key_switch(actor=TESTER, use=Use.TOKEN)
    key_finish(actor=TESTER, use=Use.TOKEN)
    tell(runtime)
    monkeypatch.setattr("provisioning.runtime_client.token_seed", lambda: old)
    with pytest.raises(AgentRefused, match="token_invalid"):
        status(runtime)


def test_the_ca(runtime: Runtime) -> None:
    """The whole way: the guest learns the new CA, the control plane's certificates and the guest's follow."""
    old = serial(fleet_key(Use.CA))
    key_announce(actor=TESTER, use=Use.CA)
    with pytest.raises(RotationRefused, match="not confirmed"):
        key_switch(actor=TESTER, use=Use.CA)
    tell(runtime)
    clients = {use: fleet_key(use).pk for use in (Use.CLIENT, Use.PROXY)}
    key_switch(actor=TESTER, use=Use.CA)
    assert all(fleet_key(use).pk != before for use, before in clients.items())
    tell(runtime)
    assert status(runtime)["runtime_id"] == str(runtime.pk)
    with pytest.raises(RotationRefused, match="old CA"):
        key_finish(actor=TESTER, use=Use.CA)
    assert renew_certificates() == 1
    assert renew_certificates() == 0
    runtime.refresh_from_db()
    assert runtime.certificate_issuer == serial(fleet_key(Use.CA)) != old
    key_finish(actor=TESTER, use=Use.CA)
    tell(runtime)
    assert status(runtime)["trust"] == trust().hash
    assert authorities().count("BEGIN CERTIFICATE") == 1


def knock(runtime: Runtime, pem: bytes, folder: Path) -> Any:
    """With a client certificate of one's own, not the one in use."""
    path = folder / "client.pem"
    path.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authorities())
    context.load_cert_chain(path)
    address, port = runtime.agent_address.rsplit(":", 1)
    name = runtime_dns_name(str(runtime.pk))
    with httpx.Client(verify=context, timeout=10, trust_env=False) as client:
        return client.get(f"https://{address}:{port}/v1/health", extensions={"sni_hostname": name})


@pytest.mark.parametrize("use", [Use.CLIENT, Use.PROXY])
def test_a_stolen_client_certificate(runtime: Runtime, use: str, tmp_path: Path) -> None:
    """Replaced at once, and revoked: the guest ends what it carries and lets it in no more."""
    stolen = fleet_key(use)
    pem = private_pem(stolen)
    assert knock(runtime, pem, tmp_path).status_code == 200
    key_announce(actor=TESTER, use=use)
    key_switch(actor=TESTER, use=use)
    assert knock(runtime, pem, tmp_path).status_code == 200, "believed until it is finished"
    key_finish(actor=TESTER, use=use)
    assert trust().revoked_serials == [serial(stolen)]
    tell(runtime)
    with pytest.raises((httpx.TransportError, ssl.SSLError)):
        knock(runtime, pem, tmp_path)
    assert status(runtime)["trust"] == trust().hash
    FleetKey.objects.filter(pk=stolen.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert trust().revoked_serials == [], "one that has lapsed need not be named"


def test_a_guest_that_starts_later_is_told_at_its_start(runtime: Runtime) -> None:
    """A rotation does not wait for a guest that is off; its papers hold what is believed when it starts."""
    from provisioning.services import operation_request

    for kind in (Operation.Kind.STOP,):
        drain(operation_request(actor=TESTER, runtime_id=runtime.pk, kind=kind))
    for move in (key_announce, key_switch, key_finish):
        move(actor=TESTER, use=Use.TOKEN)
    started = drain(operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.START))
    assert started.state == Operation.State.SUCCEEDED, started.error_message
    runtime.refresh_from_db()
    assert runtime.trust_seen == trust().hash


def test_web_cannot_slip_a_key_in(runtime: Runtime) -> None:
    """Web writes this table. A row whose wrapped key is not its public part's is believed by nobody."""
    own = fleet_key(Use.TOKEN)
    FleetKey.objects.create(
        use=Use.TOKEN, state=State.TRUSTED, public_key="ab" * 32, private_key=own.private_key
    )
    with pytest.raises(WrappingError):
        trust()


def test_rule_1(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each move and its entry are one transaction."""

    def full(**given: Any) -> None:
        raise OSError("disk full")

    key_announce(actor=TESTER, use=Use.TOKEN)
    tell(runtime)
    before = list(FleetKey.objects.order_by("pk").values_list("pk", "state"))
    with monkeypatch.context() as patch:
        patch.setattr("provisioning.rotation.record", full)
        patch.setattr("provisioning.fleet_keys.record", full)
        for move, use in ((key_announce, Use.CA), (key_switch, Use.TOKEN), (key_announce, Use.PROXY)):
            with pytest.raises(OSError, match="disk full"):
                move(actor=TESTER, use=use)
    assert list(FleetKey.objects.order_by("pk").values_list("pk", "state")) == before
    key_switch(actor=TESTER, use=Use.TOKEN)
    key_finish(actor=TESTER, use=Use.TOKEN)
    actions = Entry.objects.filter(action__startswith="key.").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["key.announced", "key.superseded", "key.switched", "key.retired"]


def test_the_commands(runtime: Runtime) -> None:
    """Each says what to do next; none shows a secret; a move that is not due is refused in words."""
    said = io.StringIO()
    with pytest.raises(CommandError, match="Announce one first"):
        call_command("keys_rotate", "token", "--switch", stdout=said)
    call_command("keys_rotate", "token", stdout=said)
    call_command("keys_status", stdout=said)
    assert str(runtime) in said.getvalue()
    with pytest.raises(CommandError, match="not confirmed"):
        call_command("keys_rotate", "token", "--switch", stdout=said)
    tell(runtime)
    seed = token_seed()
    call_command("keys_rotate", "token", "--switch", stdout=said)
    call_command("keys_rotate", "token", "--finish", stdout=said)
    call_command("keys_rotate", "ca", stdout=said)
    assert "keys_rotate ca --switch" in said.getvalue()
    assert seed.hex() not in said.getvalue()
    assert token_seed().hex() not in said.getvalue()


def test_what_nginx_gets(runtime: Runtime, tmp_path: Path) -> None:
    """Its own certificate and every CA that is believed; private, whole, and left alone if nothing changed."""
    said, folder = io.StringIO(), tmp_path / "identity"
    folder.mkdir()
    call_command("proxy_identity", str(folder), stdout=said)
    assert "client.pem, ca.pem" in said.getvalue()
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    call_command("proxy_identity", str(folder), stdout=said)
    assert "as before" in said.getvalue()
    key_announce(actor=TESTER, use=Use.CA)
    call_command("proxy_identity", str(folder), stdout=said)
    assert (folder / "ca.pem").read_text().count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE" not in said.getvalue()


# Connections


def calls() -> int:
    return Entry.objects.filter(action="agent.requested").count()


def test_connections_are_kept(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls in a row share one; the guest waits longer for the next request than we keep it."""
    from guest.agent.config import PATIENCE_SECONDS

    made: list[int] = []
    original = RuntimeClient._context

    def counting(self: RuntimeClient, *, verified: bool) -> ssl.SSLContext:
        made.append(1)
        return original(self, verified=verified)

    monkeypatch.setattr(RuntimeClient, "_context", counting)
    monkeypatch.setattr("provisioning.runtime_client._POOL", ClientPool(4))
    for _ in range(3):
        status(runtime)
    assert len(made) == 1
    assert KEPT_SECONDS < PATIENCE_SECONDS


def test_a_kept_client_is_one_runtimes(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are given out again; a connection belongs to whom it was opened to."""
    names: list[Any] = []
    pool = ClientPool(2)
    original = pool.get

    def noting(name: Any, make: Any) -> KeptClient:
        names.append(name)
        return original(name, make)

    monkeypatch.setattr(pool, "get", noting)
    monkeypatch.setattr("provisioning.runtime_client._POOL", pool)
    status(runtime)
    (name,) = names
    assert runtime_dns_name(str(runtime.pk)) in name
    for number in range(5):
        pool.get(number, KeptClient)
    assert len(pool._clients) == 2, "bounded"


@pytest.mark.parametrize(("method", "tries"), [("GET", 2), ("PUT", 2), ("DELETE", 2), ("POST", 1)])
def test_a_connection_that_breaks(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, method: str, tries: int
) -> None:
    """What cannot happen twice is tried once more, with a token and an entry of its own."""
    tokens: list[str] = []

    def broken(self: Any, method: str, path: str, content: bytes, token: str, **given: Any) -> Any:
        tokens.append(token)
        raise ConnectionBroke("It broke.")

    monkeypatch.setattr(RuntimeClient, "_send", broken)
    before = calls()
    with pytest.raises(AgentUnreachable):
        RuntimeClient(runtime, "127.0.0.1", 9, TESTER)._call(method, "/v1/status", None)
    assert (len(set(tokens)), calls() - before) == (tries, tries)
