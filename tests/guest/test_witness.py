"""A guest as a witness: what it signs, what it refuses, and what it never forgets."""

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guest.agent import files, witness
from guest.agent.witness import Witness, WitnessFileError
from guest.agent.witness_memory import MAX_CONTRADICTIONS, MAX_DOUBTS, MAX_EARLIER, Memory
from protocol.checkpoints import check_cosignature, opened
from protocol.enrolment import runtime_dns_name
from protocol.notes import Note, VerifierKey
from tests.guest.crashes import lay_out, recorded
from tests.guest.fleet import RUNTIME_ID
from tests.protocol.growing import Log

NOW = 1_800_000_000
LOG = Log.of(20)
OTHER_KEY = replace(LOG, seed=bytes(32))
ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
Deed = Callable[[], object]


def at(folder: Path, log: str = str(LOG.vkey)) -> Witness:
    return Witness(folder, RUNTIME_ID, log)


def offer(held: Witness, old: int, size: int, log: Log = LOG, now: int = NOW) -> dict[str, Any]:
    return held.consider(log.request(old, size).to_text(), now)


def refusal(answer: dict[str, Any]) -> tuple[str, int]:
    assert answer.keys() == {"verdict", "reason", "size"}
    assert answer["verdict"] == "refused"
    return answer["reason"], answer["size"]


@pytest.fixture
def held(tmp_path: Path) -> Witness:
    """A witness that holds 7 leaves."""
    made = at(tmp_path)
    assert offer(made, 0, 7)["verdict"] == "signed"
    return made


def test_the_first_checkpoint_is_signed(tmp_path: Path) -> None:
    """With a cosignature that its own verifier key opens, over the checkpoint that was offered."""
    made = at(tmp_path)
    answer = offer(made, 0, 7)
    assert (answer["verdict"], answer["size"]) == ("signed", 7)
    key = VerifierKey.parse(made.vkey)
    assert key.name == runtime_dns_name(RUNTIME_ID)
    note = Note.parse(LOG.note(7)).signed_also(answer["cosignature"])
    assert check_cosignature(note, key) == NOW
    assert made.shown()["note"] == note.to_text()
    assert opened(made.shown()["note"], LOG.vkey).size == made.statement()["size"] == 7


def test_what_extends_it_is_signed(held: Witness) -> None:
    """Larger, or the same again: a portal that never heard the answer asks once more."""
    for old, size in ((7, 7), (7, 8), (8, 20), (20, 20)):
        assert offer(held, old, size)["verdict"] == "signed"
        assert held.statement()["size"] == size


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("smaller", lambda: LOG.request(6, 6)),
        ("smaller", lambda: LOG.request(7, 6)),
        ("stale", lambda: LOG.request(5, 9)),
        ("stale", lambda: LOG.request(0, 9)),
        ("stale", lambda: LOG.request(8, 9)),
        ("forked", lambda: replace(LOG.fork(3, 7).request(7, 7), proof=())),
        ("forked", lambda: LOG.fork(3, 7).request(0, 7)),
        ("forked", lambda: LOG.fork(3, 7).request(8, 7)),
        ("proof", lambda: LOG.fork(3, 12).request(7, 12)),
        ("proof", lambda: replace(LOG.request(7, 9), proof=())),
        ("proof", lambda: replace(LOG.request(7, 7), proof=(bytes(32),))),
        ("proof", lambda: replace(LOG.request(7, 9), proof=(*LOG.request(7, 9).proof, bytes(32)))),
        ("signature", lambda: OTHER_KEY.request(7, 9)),
        ("signature", lambda: replace(LOG.request(7, 9), note=LOG.note(9).replace("\n9\n", "\n10\n"))),
        ("origin", lambda: replace(LOG, origin="elsewhere.example/log").request(7, 9)),
        ("malformed", lambda: replace(LOG.request(7, 9), note="no note\n")),
    ],
)
def test_what_does_not_extend_it_is_refused(held: Witness, tmp_path: Path, reason: str, make: Any) -> None:
    """By its name, with the size that is held; and what is held stays."""
    before = held.statement()
    assert refusal(held.consider(make().to_text(), NOW + 1)) == (reason, 7)
    after = held.statement()
    assert after | {"contradictions": 0, "doubts": 0} == before
    assert at(tmp_path).statement() == after
    assert offer(held, 7, 20)["verdict"] == "signed"


@pytest.mark.parametrize("text", ["", "old", "old -1\n\nx", "old 1\n" + "A" * 70_000, "\x00"])
def test_no_request(held: Witness, text: str) -> None:
    assert refusal(held.consider(text, NOW)) == ("malformed", 7)


@ONE_FOLDER
@given(st.text(max_size=300))
def test_any_text_is_answered(held: Witness, text: str) -> None:
    """Nothing that a portal sends makes it raise, or sign."""
    assert refusal(held.consider(text, NOW))[1] == 7


def test_a_proof_for_another_pair_is_refused(held: Witness) -> None:
    """Every true proof between other sizes, under the checkpoint that is asked for."""
    good = LOG.request(7, 13)
    others = {LOG.request(old, new).proof for old in range(1, 20) for new in range(old, 21)} - {good.proof}
    for proof in others:
        assert refusal(held.consider(replace(good, proof=proof).to_text(), NOW)) == ("proof", 7)
    assert held.consider(good.to_text(), NOW)["verdict"] == "signed"


def forked(size: int, at_leaf: int = 3) -> str:
    """A request with another history of that size."""
    return LOG.fork(at_leaf, size).request(size, size).to_text()


def proves(found: dict[str, Any]) -> bool:
    """To anybody who has the log's key, and nothing else."""
    one, other = opened(found["note"], LOG.vkey), opened(found["against"], LOG.vkey)
    return one.size == other.size and one.root != other.root


def test_contradictions_are_kept_as_evidence(held: Witness, tmp_path: Path) -> None:
    """Both signed notes of a fork, once, across a restart, and no signature of anybody else's with them."""
    fork = LOG.fork(3, 7)
    request = fork.request(7, 7)
    noisy = replace(request, note=request.note + "— someone.example AAAAAAAAAA==\n")
    before = held.shown()["note"]
    for _ in range(3):
        assert refusal(held.consider(noisy.to_text(), NOW + 5))[0] == "forked"
    (found,) = at(tmp_path).shown()["contradictions"]
    assert found == {
        "reason": "forked",
        "at": NOW + 5,
        "held": 7,
        "note": fork.note(7),
        "against": before,
        "seen": False,
    }
    assert proves(found)
    assert (at(tmp_path).shown()["doubts"], at(tmp_path).shown()["unseen"]) == ([], 1)


def test_the_first_contradictions_stay(held: Witness) -> None:
    """Later ones do not push them out, and do not fill the disk."""
    for number in range(MAX_CONTRADICTIONS + 3):
        offer(held, held.statement()["size"], 8 + number)
        assert refusal(held.consider(forked(8 + number), NOW + number))[0] == "forked"
    found = held.shown()["contradictions"]
    assert [each["at"] for each in found] == [NOW + number for number in range(MAX_CONTRADICTIONS)]
    assert all(map(proves, found))


def test_honest_checkpoints_fill_no_evidence(tmp_path: Path) -> None:
    """Whoever shows the log's own old checkpoints, with junk for proofs, accuses nobody and hides no fork."""
    made = at(tmp_path)
    offer(made, 0, 15)
    for size in range(1, 15):
        assert refusal(offer(made, 15, size)) == ("smaller", 15)
    for size in range(16, 20):
        junk = replace(LOG.request(15, size), proof=(bytes(32),))
        assert refusal(made.consider(junk.to_text(), NOW))[0] == "proof"
    assert made.shown()["contradictions"] == []
    doubts = made.shown()["doubts"]
    assert [opened(each["note"], LOG.vkey).size for each in doubts][-4:] == [16, 17, 18, 19]
    assert len(doubts) == MAX_DOUBTS
    made.consider(forked(15), NOW)
    (found,) = at(tmp_path).shown()["contradictions"]
    assert proves(found)
    assert offer(made, 15, 20)["verdict"] == "signed"
    assert len(made.shown()["contradictions"]) == 1


def test_a_doubt_is_proved_by_the_log_itself(held: Witness, tmp_path: Path) -> None:
    """A fork ahead of what is held proves nothing, until the log signs its other root for that size."""
    assert refusal(offer(held, 7, 12, LOG.fork(3, 12)))[0] == "proof"
    shown = held.shown()
    assert (len(shown["contradictions"]), len(shown["doubts"]), shown["unseen"]) == (0, 1, 1)
    held.saw()
    offer(held, 7, 12)
    again = at(tmp_path).shown()
    (found,) = again["contradictions"]
    assert (found["reason"], found["held"], again["doubts"], again["unseen"]) == ("forked", 7, [], 1)
    assert proves(found)


def test_two_doubts_prove_each_other(held: Witness) -> None:
    """Two other histories of one size: no matter which of them is true, the log has signed both."""
    offer(held, 7, 12, LOG.fork(3, 12))
    offer(held, 7, 12, LOG.fork(4, 12))
    (found,) = held.shown()["contradictions"]
    assert proves(found)


def test_an_older_checkpoint_is_one_that_was_signed_or_a_fork(held: Witness) -> None:
    """What was signed here may be shown again; another root of the same size is proved even long after."""
    for size in range(8, 8 + 10):
        offer(held, size - 1, size)
    assert refusal(offer(held, 7, 7))[0] == "smaller"
    assert (held.shown()["contradictions"], held.shown()["doubts"]) == ([], [])
    assert refusal(held.consider(forked(7), NOW))[0] == "smaller"
    (found,) = held.shown()["contradictions"]
    assert found["reason"] == "forked"
    assert proves(found)


def test_what_was_signed_is_bounded(tmp_path: Path) -> None:
    """It does not grow with the log."""
    log, made = Log.of(MAX_EARLIER + 9), at(tmp_path)
    for size in range(1, MAX_EARLIER + 9):
        offer(made, size - 1, size, log)
    kept = Memory.parse((tmp_path / "witness.json").read_bytes()).earlier
    sizes = [opened(note, LOG.vkey).size for note in kept]
    assert sizes == list(range(8, 8 + MAX_EARLIER))


def test_an_owner_has_seen_them(held: Witness, tmp_path: Path) -> None:
    """They stay, and count as seen; a new one does not."""
    held.consider(forked(7), NOW)
    refusal(offer(held, 6, 6))
    assert held.shown()["unseen"] == 2
    held.saw()
    again = at(tmp_path)
    shown = again.shown()
    assert (len(shown["contradictions"]), len(shown["doubts"]), shown["unseen"]) == (1, 1, 0)
    refusal(offer(again, 5, 5))
    assert again.shown()["unseen"] == 1


def test_an_older_agents_memory_is_read(held: Witness, tmp_path: Path) -> None:
    """What it had kept without a second note is a doubt; what it had signed stays."""
    stored = json.loads((tmp_path / "witness.json").read_bytes().partition(b"\n")[2])
    old = {name: stored[name] for name in ("log", "size", "root", "at", "note")}
    shown = {"reason": "proof", "at": NOW, "held": 7, "note": LOG.fork(3, 12).note(12)}
    body = json.dumps(old | {"contradictions": [shown], "seen": 1}).encode()
    (tmp_path / "witness.json").write_bytes(sha256(body).hexdigest().encode() + b"\n" + body)
    again = at(tmp_path)
    assert again.statement() == held.statement() | {"doubts": 1}
    offer(again, 7, 12)
    assert len(at(tmp_path).shown()["contradictions"]) == 1


@pytest.mark.parametrize("make", [OTHER_KEY.request, replace(LOG, origin="x.example/log").request])
def test_what_anybody_could_have_made_is_no_evidence(held: Witness, make: Any) -> None:
    """A checkpoint that is not the log's says nothing about the log."""
    refusal(held.consider(make(7, 9).to_text(), NOW))
    assert (held.shown()["contradictions"], held.shown()["doubts"]) == ([], [])


def test_later_papers_do_not_replace_the_log(held: Witness, tmp_path: Path) -> None:
    """The first key stays pinned; the status says that another one is offered, and nothing under it is signed."""
    again = at(tmp_path, str(OTHER_KEY.vkey))
    said = again.statement()
    assert (said["log"], said["other_log_offered"]) == (str(LOG.vkey), True)
    assert refusal(offer(again, 7, 9, OTHER_KEY)) == ("signature", 7)
    assert offer(again, 7, 9)["verdict"] == "signed"
    assert held.statement()["other_log_offered"] is False


def test_papers_without_a_log(tmp_path: Path) -> None:
    """Nothing is signed until papers name one; that one is pinned."""
    assert refusal(offer(at(tmp_path, ""), 0, 7)) == ("origin", 0)
    assert offer(at(tmp_path), 0, 7)["verdict"] == "signed"
    assert at(tmp_path, "").statement()["log"] == str(LOG.vkey)


def test_its_key_stays(held: Witness, tmp_path: Path) -> None:
    """Across a restart; another machine has another."""
    assert at(tmp_path).vkey == held.vkey
    assert at(tmp_path / "other").vkey != held.vkey
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_file()} == {
        "witness.key": 0o600,
        "witness.json": 0o600,
    }


@pytest.mark.parametrize("lost", ["witness.key", "witness.json"])
def test_half_a_memory_is_no_memory(held: Witness, tmp_path: Path, lost: str) -> None:
    """Whoever takes one of the files away gets no witness that starts afresh."""
    assert held.statement()["size"] == 7
    (tmp_path / lost).unlink()
    with pytest.raises(WitnessFileError, match=f"{lost} is missing"):
        at(tmp_path)


@ONE_FOLDER
@given(where=st.integers(0, 2**16), change=st.integers(1, 255), cut=st.booleans())
def test_any_damage_is_noticed(held: Witness, tmp_path: Path, where: int, change: int, cut: bool) -> None:
    """One byte changed, or the end lost: the agent does not start."""
    path = tmp_path / "witness.json"
    whole = path.read_bytes()
    where %= len(whole)
    path.write_bytes(
        whole[:where] if cut else whole[:where] + bytes([whole[where] ^ change]) + whole[where + 1 :]
    )
    try:
        with pytest.raises(WitnessFileError, match="damaged"):
            at(tmp_path)
    finally:
        path.write_bytes(whole)
    assert at(tmp_path).statement() == held.statement()


def test_a_key_of_another_length(held: Witness, tmp_path: Path) -> None:
    assert held.vkey
    (tmp_path / "witness.key").write_bytes(b"short")
    with pytest.raises(WitnessFileError, match="damaged"):
        at(tmp_path)


def test_a_memory_keeps_its_texts_as_they_are(tmp_path: Path) -> None:
    """A note in another normal form would no longer be what was signed."""
    assert Memory.parse(Memory(note="e\u0301").to_bytes()).note == "e\u0301"
    assert json.loads(Memory().to_bytes().partition(b"\n")[2])["size"] == 0


def test_a_full_disk_signs_nothing(held: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be remembered is not signed, and the old memory is whole."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "_write", full)
        with pytest.raises(OSError, match="No space"):
            offer(held, 7, 9)
    for each in (held, at(tmp_path)):
        assert each.statement()["size"] == 7
    assert offer(held, 7, 9)["verdict"] == "signed"


def test_a_stop_at_any_instant_forgets_nothing(
    held: Witness, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The disk holds the old memory or the new one; once there is a signature, only the new one."""
    assert held.statement()["size"] == 7
    deed: Deed = lambda: offer(held, 7, 9)  # noqa: E731 - named for the recorder
    record = recorded(tmp_path, deed)
    base = tmp_path_factory.mktemp("states")
    found = set()
    for index, state in enumerate(record.states()):
        found.add(at(lay_out(base / f"{index}", state)).statement()["size"])
    assert found == {7, 9}
    for index, state in enumerate(record.states(since=len(record.log))):
        assert at(lay_out(base / f"after-{index}", state)).statement()["size"] == 9


def test_a_stop_in_the_first_start_is_no_damage(tmp_path: Path) -> None:
    """Whatever the first start leaves, the next one makes the rest."""
    first = tmp_path / "first"
    first.mkdir()
    for index, state in enumerate(recorded(first, lambda: at(first)).states()):
        assert offer(at(lay_out(tmp_path / f"{index}", state)), 0, 7)["verdict"] == "signed"


def test_the_module_writes_nothing_but_whole_files() -> None:
    """Every write goes through the one function that syncs before it renames."""
    source = Path(witness.__file__).read_text()
    assert "write_bytes" not in source
    assert "open(" not in source
