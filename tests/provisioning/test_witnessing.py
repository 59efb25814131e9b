"""The log's checkpoints go to guests that run, and what these answer is kept: against live agents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from audit import proofs, triggers, witnesses
from audit.acknowledging import NotAcknowledged
from audit.alerts import alerts
from audit.models import Checkpoint, Cosignature, Entry, Witness, WitnessRefusal
from audit.sequencer import sequence_once
from protocol.checkpoints import check_cosignature
from protocol.enrolment import runtime_dns_name
from protocol.notes import COSIGNATURE_V1, VerifierKey, new_key
from provisioning import tasks, witnessing
from provisioning.models import Operation, Runtime
from provisioning.runtime_client import AgentUnreachable, RuntimeClient
from provisioning.services import operation_request
from tests.provisioning.test_calls import client
from tests.provisioning.witness_flows import TESTER, again, ask, head, noted, set_back, write
from tests.provisioning.workers import drain

pytestmark = pytest.mark.django_db(transaction=True)


def witness_of(runtime: Runtime) -> Witness:
    found = witnessing.guest_of(runtime)
    assert found is not None
    return found


def held(runtime: Runtime) -> int:
    return int(client(runtime).status()["witness"]["size"])


def refusals() -> list[tuple[str, int]]:
    return list(WitnessRefusal.objects.order_by("pk").values_list("reason", "size"))


def test_a_new_machine_is_registered(runtime: Runtime) -> None:
    """At its first start: by the key that it made, with an entry, and the log of its papers is ours."""
    stated = client(runtime).status()["witness"]
    witness = witness_of(runtime)
    assert (witness.vkey, witness.name) == (stated["vkey"], runtime_dns_name(str(runtime.pk)))
    assert witness.tenant_id == runtime.tenant_id
    assert noted("witness.registered") == [{"name": witness.name, "vkey": witness.vkey, "url": ""}]
    assert not refusals()
    assert stated["size"] == 0


def test_it_signs_what_extends(runtime: Runtime) -> None:
    """Round after round; each signature proves itself, and none of them is an entry."""
    sizes = []
    for _ in range(3):
        write()
        ask(runtime)
        newest = head()
        (row,) = Cosignature.objects.filter(checkpoint=newest)
        key = VerifierKey.parse(witness_of(runtime).vkey)
        assert check_cosignature(proofs.note_of(newest, Witness.objects.all()), key) == int(
            row.signed_at.timestamp()
        )
        sizes.append(newest.size)
    assert sizes == sorted(set(sizes))
    assert held(runtime) == sizes[-1] == witnesses.held_by(witness_of(runtime))
    assert {row.action for row in Entry.objects.filter(action__startswith="witness.")} == {
        "witness.registered"
    }
    assert not refusals()


def test_a_round_comes_once_in_its_time(runtime: Runtime) -> None:
    """The question's own two entries make the tree grow; the next question waits for the next round all the same."""
    write()
    ask(runtime)
    before = Cosignature.objects.count()
    for _ in range(3):
        assert sequence_once() in {0, 2}
        witnessing.ask_guest(runtime.pk)
    assert Cosignature.objects.count() == before
    again()
    witnessing.ask_guest(runtime.pk)
    assert Cosignature.objects.count() == before + 1


def test_nothing_new_is_asked_too(runtime: Runtime) -> None:
    """It signs the same again; the first signature stays."""
    write()
    ask(runtime)
    (before,) = Cosignature.objects.values()
    for _ in range(2):
        again()
        witnessing.ask_guest(runtime.pk)
    assert list(Cosignature.objects.values()) == [before]
    assert not refusals()


def test_an_answer_that_was_lost(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker killed between the guest's answer and the row: the next goes on from what the guest holds."""
    write()
    with monkeypatch.context() as patch:
        patch.setattr(witnesses, "cosigned", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ask(runtime)
    assert (held(runtime) > 0, witnesses.held_by(witness_of(runtime))) == (True, 0)
    write()
    ask(runtime)
    assert witnesses.held_by(witness_of(runtime)) == held(runtime) == head().size
    assert not refusals()


def test_a_machine_stopped_and_started_again(runtime: Runtime) -> None:
    """It goes on from what it held, under the same key."""
    write()
    ask(runtime)
    before = held(runtime)
    for kind in (Operation.Kind.STOP, Operation.Kind.START):
        done = drain(operation_request(actor=TESTER, runtime_id=runtime.pk, kind=kind))
        assert done.state == Operation.State.SUCCEEDED, done.error_message
    assert held(runtime) == before
    write()
    ask(runtime)
    assert held(runtime) == head().size > before
    assert Witness.objects.count() == 1
    assert not refusals()


def test_a_machine_that_does_not_answer(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noted on its row, and over with the next answer; no refusal, for it has refused nothing."""

    def silent(*_: Any) -> None:
        raise AgentUnreachable("No answer.")

    write()
    with monkeypatch.context() as patch:
        patch.setattr(RuntimeClient, "_send", silent)
        patch.setattr(RuntimeClient, "offer_checkpoint", silent)
        ask(runtime)
    assert witness_of(runtime).problem == "No answer."
    ask(runtime)
    assert witness_of(runtime).problem == ""
    assert not refusals()


def test_a_fork_is_refused(runtime: Runtime) -> None:
    """The log's own key signs a second history: the guest does not, an entry says so, and the alarm is loud."""
    write()
    ask(runtime)
    size = held(runtime)
    set_back(size - 2)
    write(8, "thing.rewritten")
    ask(runtime)
    assert refusals() == [("proof", size)]
    assert not Cosignature.objects.filter(checkpoint=head()).exists()
    (said,) = noted("witness.refused")
    assert (said["code"], said["held"], said["name"]) == ("proof", size, runtime_dns_name(str(runtime.pk)))
    (alert,) = alerts()
    assert (alert.code, alert.severity) == ("witness_refused", "loud")
    stated = client(runtime).status()["witness"]
    assert (stated["size"], stated["doubts"]) == (size, 1)


def test_another_tree_of_the_same_size_is_refused(runtime: Runtime) -> None:
    """Even where the database still says what the guest had signed."""
    write()
    ask(runtime)
    size = held(runtime)
    set_back(size - 2)
    write(2, "thing.rewritten")
    sequence_once()
    assert head().size == size
    again()
    witnessing.ask_guest(runtime.pk)
    assert refusals() == [("forked", size)]


def test_an_older_backup_is_refused(runtime: Runtime) -> None:
    """A database set back, with a smaller tree and the old signatures: what it has lost, the guest holds."""
    write()
    ask(runtime)
    early = head().size
    write(30)
    ask(runtime)
    size = held(runtime)
    set_back(early)
    ask(runtime)
    assert head().size < size
    assert refusals() == [("smaller", size)]


def test_one_alarm_until_somebody_has_looked(runtime: Runtime) -> None:
    """A refusal each round is one row; acknowledged with a reason, in the record; the next one is a new alarm."""
    write()
    ask(runtime)
    set_back(held(runtime) - 2)
    for _ in range(3):
        write(8, "thing.rewritten")
        ask(runtime)
    (refusal,) = witnesses.open_refusals()
    with pytest.raises(NotAcknowledged, match="10 characters"):
        witnesses.refusal_acknowledge(actor=TESTER, refusal=refusal, reason="short")
    witnesses.refusal_acknowledge(actor=TESTER, refusal=refusal, reason="Restored the backup of Monday.")
    assert alerts() == []
    with pytest.raises(NotAcknowledged, match="already"):
        witnesses.refusal_acknowledge(actor=TESTER, refusal=refusal, reason="Restored the backup of Monday.")
    assert len(noted("witness.refusal_acknowledged")) == 1
    write()
    ask(runtime)
    assert len(refusals()) == 2
    assert [alert.code for alert in alerts()] == ["witness_refused"]


def test_two_workers_with_two_checkpoints_are_no_refusal(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One shows an older head after the other has shown the newest: rightly refused, and no alarm."""
    write()
    ask(runtime)
    write()
    sequence_once()
    older = head()
    real = witnessing._verdict
    first = True

    def overtaken(answer: Any) -> Any:
        nonlocal first
        if not first:
            return real(answer)
        first = False
        write()
        sequence_once()
        assert head().size > older.size
        newest = witnesses.request_for(head(), int(answer["size"])).to_text()
        assert client(runtime).offer_checkpoint(newest)["verdict"] == "signed"
        late = witnesses.request_for(older, int(answer["size"])).to_text()
        return real(client(runtime).offer_checkpoint(late))

    monkeypatch.setattr(witnessing, "_verdict", overtaken)
    again()
    witnessing.ask_guest(runtime.pk)
    assert first is False
    assert not refusals()
    assert witnesses.held_by(witness_of(runtime)) == held(runtime)


def test_another_key_of_the_same_machine(runtime: Runtime) -> None:
    """It does not replace the registered one; it is a refusal, until staff retire the old one."""
    stranger = str(new_key(witness_of(runtime).name, COSIGNATURE_V1)[1])
    said = client(runtime).status()
    before = witness_of(runtime).vkey
    witnessing.follow(runtime, {"witness": {**said["witness"], "vkey": stranger}})
    assert witness_of(runtime).vkey == before
    assert [reason for reason, _ in refusals()] == ["other_key"]
    witnesses.witness_retire(actor=TESTER, witness=witness_of(runtime), reason="Its volume was made anew.")
    witnessing.follow(runtime, {"witness": {**said["witness"], "vkey": stranger}})
    assert witness_of(runtime).vkey == stranger


def test_a_machine_that_knows_another_log(runtime: Runtime) -> None:
    """Told once, loudly: it was set up by somebody else's papers, or the log's key was changed."""
    said = client(runtime).status()["witness"]
    other = str(new_key("elsewhere.example/log")[1])
    for _ in range(2):
        witnessing.follow(runtime, {"witness": {**said, "log": other}})
    assert [reason for reason, _ in refusals()] == ["origin"]


@pytest.mark.parametrize("stated", [None, {}, {"vkey": 7}, {"vkey": ""}, {"vkey": "x+00+AA", "log": ""}])
def test_a_guest_that_states_nonsense(runtime: Runtime, stated: Any) -> None:
    """Nothing is registered, and nothing breaks."""
    triggers.remove(connection, "audit_witness")
    Witness.objects.all()._raw_delete(using="default")
    assert witnessing.follow(runtime, {"witness": stated}) is None
    name = runtime_dns_name(str(runtime.pk))
    assert witnessing.follow(runtime, {"witness": {"vkey": f"{name}+00000000+AAAA", "log": ""}}) is None
    assert not Witness.objects.exists()


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"verdict": "signed"},
        {"verdict": "refused", "reason": "no such", "size": 1},
        {"verdict": "refused", "reason": "proof", "size": -1},
        {"verdict": "refused", "reason": "proof", "size": True},
        {"verdict": "refused", "reason": "proof", "size": 2**63},
        {"verdict": ["signed"], "cosignature": "x"},
    ],
)
def test_a_malformed_answer_is_none(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    write()
    monkeypatch.setattr(RuntimeClient, "offer_checkpoint", lambda *_: answer)
    ask(runtime)
    assert "malformed" in witness_of(runtime).problem
    assert not refusals()
    assert not Cosignature.objects.exists()


@pytest.mark.parametrize("change", ["key", "note", "future", "nothing"])
def test_a_signature_that_does_not_fit(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """By another key, under another checkpoint, dated ahead, or none: not kept, and loud."""
    from datetime import UTC, datetime

    from protocol.checkpoints import Checkpoint as Head
    from protocol.checkpoints import cosign

    name = witness_of(runtime).name
    seed, vkey = new_key(name, COSIGNATURE_V1)
    if change != "key":
        triggers.remove(connection, "audit_witness")
        Witness.objects.update(vkey=str(vkey))
    write()
    sequence_once()
    note = Head("other/log", 1, bytes(32)).text() + "\n" if change == "note" else head().note
    now = int(datetime.now(UTC).timestamp()) + (86400 if change == "future" else 0)
    shown = f"{note}— x AAAAAAA=\n" if change == "note" else note
    line = "" if change == "nothing" else cosign(shown, name, seed, now)
    answer = {"verdict": "signed", "size": 1, "cosignature": line}
    monkeypatch.setattr(RuntimeClient, "offer_checkpoint", lambda *_: answer)
    again()
    witnessing.ask_guest(runtime.pk)
    assert [reason for reason, _ in refusals()] == ["bad_cosignature"]
    assert not Cosignature.objects.exists()


def test_a_deleted_runtimes_guest_is_retired(runtime: Runtime) -> None:
    """By the round, with its entry; what it signed stays."""
    write()
    ask(runtime)
    witness = witness_of(runtime)
    done = drain(
        operation_request(
            actor=TESTER,
            runtime_id=runtime.pk,
            kind=Operation.Kind.DELETE,
            reason="The tenant has left, as agreed.",
        )
    )
    assert done.state == Operation.State.SUCCEEDED, done.error_message
    witnessing.retire_gone()
    witness.refresh_from_db()
    assert witness.retired_at is not None
    assert len(noted("witness.retired")) == 1
    assert Cosignature.objects.filter(witness=witness).exists()
    witnessing.retire_gone()
    assert len(noted("witness.retired")) == 1


def test_the_round_sends_a_task_for_each(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each witness by itself: a slow one holds up no other."""
    sent: list[Any] = []
    for task in (tasks.witness_guest, tasks.witness_outside):
        monkeypatch.setattr(
            task, "apply_async", lambda args, expires, task=task: sent.append((task.name, args))
        )
    vkey = str(new_key("witness.example", COSIGNATURE_V1)[1])
    outside = witnesses.witness_register(actor=TESTER, vkey=vkey, url="https://witness.example/log")
    tasks.witness_round()
    assert sent == [
        ("provisioning.tasks.witness_guest", (str(runtime.pk),)),
        ("provisioning.tasks.witness_outside", (outside.pk,)),
    ]
    write()
    sequence_once()
    tasks.witness_guest(str(runtime.pk))
    assert Cosignature.objects.get().witness == witness_of(runtime)


def test_no_registration_and_no_refusal_without_its_entry(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 1."""
    witness = witness_of(runtime)

    def broken(**_: Any) -> None:
        raise RuntimeError("the record refuses")

    monkeypatch.setattr(witnesses, "record", broken)
    deeds: list[Callable[[], object]] = [
        lambda: witnesses.witness_register(
            actor=TESTER, vkey=str(new_key("w.example", COSIGNATURE_V1)[1]), url="https://w.example/"
        ),
        lambda: witnesses.refused(witness, None, "proof", 1),
        lambda: witnesses.witness_retire(actor=TESTER, witness=witness, reason="It is not needed."),
    ]
    for deed in deeds:
        with pytest.raises(RuntimeError):
            deed()
    assert list(Witness.objects.values_list("pk", "retired_at")) == [(witness.pk, None)]
    assert not refusals()


def test_a_guest_from_before_this_is_registered_by_the_round(runtime: Runtime) -> None:
    """One that was not known yet is asked who it is first."""
    triggers.remove(connection, "audit_witness")
    Witness.objects.all()._raw_delete(using="default")
    write()
    ask(runtime)
    assert witnesses.held_by(witness_of(runtime)) == held(runtime) > 0


def test_the_agents_folder_keeps_the_memory(runtime: Runtime) -> None:
    """The simulated guest's data folder holds the key and the memory; neither is anywhere in the portal."""
    assert runtime.host is not None
    folder = Path(runtime.host.pool_path) / "data" / str(runtime.pk)
    seed = next(folder.rglob("witness.key")).read_bytes()
    assert len(seed) == 32
    rows = repr(list(Witness.objects.values())) + repr(list(Entry.objects.values_list("event")))
    assert seed.hex() not in rows
    assert Checkpoint.objects.count() == 0
