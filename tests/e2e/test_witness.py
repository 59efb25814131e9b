"""A real guest as a witness: it cosigns what extends its checkpoint, and refuses a forked log under the log's own key."""

import pytest

from audit import proofs, witnesses
from audit.alerts import loud
from audit.models import Cosignature, Witness, WitnessRefusal
from protocol.checkpoints import check_cosignature
from protocol.notes import VerifierKey
from provisioning import witnessing
from provisioning.driver import connect
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.runtime_client import RuntimeClient
from provisioning.services import operation_request, runtime_create
from provisioning.specs import host_spec
from tenants.models import Tenant
from tests.provisioning.witness_flows import TESTER, ask, head, noted, set_back, write
from tests.provisioning.workers import drain

pytestmark = [pytest.mark.guest, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]
BOOT_SECONDS = 400.0


def stated(runtime: Runtime) -> dict[str, object]:
    said: dict[str, object] = RuntimeClient.dial(runtime).status()["witness"]
    return said


def cut_power_and_start(runtime: Runtime, host: Host) -> None:
    """As a host that fails: the guest gets no chance to write anything more."""
    with connect(host_spec(host)) as driver:
        driver.destroy(runtime.pk)
    asked = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.RESTART)
    done = drain(asked, BOOT_SECONDS)
    assert done.state == Operation.State.SUCCEEDED, done.error_message


def test_a_real_guest_refuses_a_forked_log(real_host: Host, real_image: GuestImage, tenant: Tenant) -> None:
    """Registered at its start, signs round after round, remembers across a power cut, and refuses the fork."""
    assert not real_image.retired
    done = drain(runtime_create(actor=TESTER, tenant=tenant), BOOT_SECONDS)
    assert done.state == Operation.State.SUCCEEDED, done.error_message
    runtime = Runtime.objects.get()
    witness = witnessing.guest_of(runtime)
    assert witness is not None
    assert witness.vkey == stated(runtime)["vkey"]

    for _ in range(2):
        write()
        ask(runtime)
        assert check_cosignature(
            proofs.note_of(head(), Witness.objects.all()), VerifierKey.parse(witness.vkey)
        )
    held = head().size
    assert stated(runtime)["size"] == held

    cut_power_and_start(runtime, real_host)
    runtime.refresh_from_db()
    assert stated(runtime)["size"] == held
    write()
    ask(runtime)
    held = head().size
    assert witnesses.held_by(witness) == held

    # The superuser takes entries out, and the log's own key signs what is left with others after it.
    set_back(held - 5)
    write(20, "thing.rewritten")
    ask(runtime)
    assert list(WitnessRefusal.objects.values_list("reason", "size")) == [("proof", held)]
    assert not Cosignature.objects.filter(checkpoint=head()).exists()
    assert [alert.code for alert in loud()] == ["witness_refused"]
    assert noted("witness.refused")[0]["held"] == held
    said = stated(runtime)
    assert (said["size"], said["doubts"], said["vkey"]) == (held, 1, witness.vkey)
