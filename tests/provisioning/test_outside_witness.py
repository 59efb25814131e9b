"""Witnesses outside, asked by URL: a real small one over HTTP, and everything that a bad one could answer."""

import gzip
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Any

import httpx
import pytest
from django.db import connection

from audit import log, proofs, triggers, witnesses
from audit.models import Cosignature, Witness, WitnessRefusal
from audit.sequencer import sequence_once
from audit.witness_urls import url_problem
from protocol.checkpoints import check_cosignature
from protocol.notes import COSIGNATURE_V1, Note, VerifierKey, new_key
from provisioning import outside_witness, witnessing
from provisioning.outside_witness import MAX_ANSWER_BYTES, OutsideUnreachable, add_checkpoint
from tests.provisioning.witness_flows import TESTER, again, head, noted, set_back, write
from tests.provisioning.witness_server import Double, witness

pytestmark = pytest.mark.django_db(transaction=True)
NOT_ONE_MACHINE = ["224.0.1.1", "ff0e::1", "64:ff9b::a00:1", "64:ff9b::7f00:1"]
"""Multicast, and NAT64 of inner addresses: all of these are global by name."""


@pytest.fixture
def double() -> Iterator[Double]:
    with witness(log.vkey()) as made:
        yield made


@pytest.fixture
def known(double: Double) -> Witness:
    """Registered by staff."""
    return witnesses.witness_register(actor=TESTER, vkey=double.vkey, url=double.url)


def ask(known: Witness) -> Witness:
    sequence_once()
    again()
    witnessing.ask_outside(known.pk)
    known.refresh_from_db()
    return known


def reasons() -> list[str]:
    return list(WitnessRefusal.objects.order_by("pk").values_list("reason", flat=True))


def test_it_signs_round_after_round(known: Witness, double: Double) -> None:
    """The first from nothing, the next with a proof; each signature is checked and kept."""
    for count in (3, 5, 300):
        write(count)
        assert ask(known).problem == ""
        assert double.state is not None
        assert double.state.size == head().size == witnesses.held_by(known)
        key = VerifierKey.parse(double.vkey)
        assert check_cosignature(proofs.note_of(head()), key)
    assert [len(request.proof) > 0 for request in double.asked] == [False, True, True]
    assert double.paths == ["/log/add-checkpoint"] * 3
    assert not reasons()


def test_it_holds_more_than_we_knew(known: Witness, double: Double) -> None:
    """Its answer was lost: it says its size, and the second question starts from there."""
    write(4)
    ask(known)
    write(4)
    sequence_once()
    request = witnesses.request_for(head(), witnesses.held_by(known))
    assert add_checkpoint(double.url, request.to_text(), request.old, head().size).lines
    write(4)
    ask(known)
    assert witnesses.held_by(known) == head().size
    assert len(double.asked) == 4
    assert not reasons()


@pytest.mark.parametrize(("size", "reason"), [(3, "smaller"), (12, "proof"), (8, "forked")])
def test_a_rewritten_log(known: Witness, double: Double, size: int, reason: str) -> None:
    """Set back, forked under more entries, forked under as many: each by its name, with its entry."""
    write(7)
    ask(known)
    assert double.state is not None
    held = double.state.size
    set_back(2)
    write(max(0, size - 2 + held - 8), "thing.rewritten")
    sequence_once()
    again()
    witnessing.ask_outside(known.pk)
    assert reasons() == [reason]
    assert noted("witness.refused")[0]["name"] == known.name
    assert double.state.size == held


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((422, "text/plain", b""), "proof"),
        ((409, "text/plain", b""), "forked"),
        ((409, "text/x.tlog.size", b"999999\n"), "smaller"),
        ((409, "text/x.tlog.size", b"0\n"), "forked"),
        ((409, "text/x.tlog.size", b"1\n"), "forked"),
        ((200, "text/plain", b""), "bad_cosignature"),
        ((200, "text/plain", b"no signature\n"), "bad_cosignature"),
        ((200, "text/plain", "— witness.example/double AAAAAAAA\n".encode()), "bad_cosignature"),
    ],
)
def test_what_it_may_answer(known: Witness, double: Double, answer: Any, reason: str) -> None:
    """Each status of C2SP tlog-witness by its meaning; a signature that is none is not kept."""
    write()
    double.answer = answer
    ask(known)
    assert reasons() == [reason]
    assert not Cosignature.objects.exists()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, "text/plain", b""), "status 500"),
        ((302, "text/plain", b""), "status 302"),
        ((204, "text/plain", b""), "status 204"),
        ((409, "text/x.tlog.size", b"many"), "not which"),
        ((200, "text/plain", b"x" * (MAX_ANSWER_BYTES + 1)), "too long"),
        ((200, "text/plain", b"\xff"), "not text"),
    ],
)
def test_what_is_no_answer(known: Witness, double: Double, answer: Any, words: str) -> None:
    """Trouble on its row, and no refusal: it may be somebody in between. A redirect is not followed."""
    write()
    double.answer = answer
    assert words in ask(known).problem
    assert not reasons()
    assert len(double.asked) == 1


@pytest.mark.parametrize(("status", "reason"), [(400, "malformed"), (403, "signature"), (404, "origin")])
def test_what_a_proxy_may_say_too(known: Witness, double: Double, status: int, reason: str) -> None:
    """Trouble on its row at first; a refusal once it says so in two rounds in a row."""
    write()
    refusal = (status, "text/plain", b"")
    for answer, told in ((refusal, "proxy"), ((500, "text/plain", b""), "500"), (refusal, "proxy")):
        double.answer = answer
        assert told in ask(known).problem
        assert not reasons()
    ask(known)
    assert reasons() == [reason]


@pytest.mark.parametrize("coding", ["gzip", "gzip, gzip", "identity"])
def test_nothing_compressed_is_read(known: Witness, double: Double, coding: str) -> None:
    """A few hundred bytes could become hundreds of megabytes; we ask for none of it."""
    write()
    double.headers = {"Content-Encoding": coding}
    double.answer = (200, "text/plain", gzip.compress(gzip.compress(bytes(10**6))))
    assert "compressed" in ask(known).problem
    assert double.heads[0]["Accept-Encoding"] == "identity"
    assert not reasons()


def test_a_byte_now_and_then_keeps_nobody(
    known: Witness, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes well within the time-outs, and the answer has no end: the whole question has one."""
    monkeypatch.setattr(outside_witness, "DEADLINE", 0.4)
    write()
    double.drip = 0.02
    before = monotonic()
    assert "No whole answer" in ask(known).problem
    assert monotonic() - before < 5
    assert not reasons()


def test_a_witness_that_was_set_back(known: Witness, double: Double) -> None:
    """It holds less than it has signed for. It is believed again, and somebody has to look into it."""
    write(4)
    ask(known)
    signed = witnesses.held_by(known)
    write(4)
    double.state = None
    ask(known)
    assert reasons() == ["forgotten"]
    assert (noted("witness.refused")[0]["code"], witnesses.held_by(known)) == ("forgotten", head().size)
    assert head().size > signed


def test_others_lines_with_its_own(known: Witness, double: Double) -> None:
    """A witness may send what others signed; its own is kept, and no other."""
    write()
    double.more = "— other.example AAAAAAAAAA==\n"
    ask(known)
    (row,) = Cosignature.objects.all()
    assert {one.name for one in Note.parse(proofs.note_of(head())).signatures} == {
        known.name,
        log.vkey().name,
    }
    assert row.line.startswith(f"— {known.name} ")


def test_nobody_listens(known: Witness) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        triggers.remove(connection, "audit_witness")
        Witness.objects.filter(pk=known.pk).update(url=f"http://127.0.0.1:{unused.getsockname()[1]}/")
        known.refresh_from_db()
        write()
        assert "No answer" in ask(known).problem
    assert not reasons()


def test_a_retired_one_is_not_asked(known: Witness, double: Double) -> None:
    write()
    witnesses.witness_retire(actor=TESTER, witness=known, reason="It has been switched off.")
    ask(known)
    assert double.asked == []
    assert witnessing.due() == ([], [])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "witness.example",
        "ftp://witness.example/",
        "http://witness.example/",
        "http://192.0.2.1/",
        "https:///path",
        "https://user@witness.example/",
        "https://witness.example/?query=1",
        "https://witness.example/#part",
        "https://witness.example:99999/",
        "https://witness.example:0/",
        "https://[::1/",
        "https://a..b/",
        f"https://{'a' * 64}.example/",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    assert url_problem(url)
    with pytest.raises(OutsideUnreachable):
        add_checkpoint(url, "", 0, 1)


@pytest.mark.parametrize(
    "url", ["https://witness.example", "https://w.example:8443/a/", "http://localhost:1/"]
)
def test_urls_that_are_good(url: str) -> None:
    assert url_problem(url) == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a\x7fb", "https://w.example/\ud800"])
def test_what_no_client_can_call(url: str) -> None:
    """Trouble in words, not a crash of the round."""
    with pytest.raises(OutsideUnreachable):
        add_checkpoint(url, "", 0, 1)


def test_a_name_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it were registered already."""
    monkeypatch.setattr(outside_witness, "url_problem", lambda _: "")
    with pytest.raises(OutsideUnreachable, match="no address"):
        add_checkpoint("https://a..b/", "", 0, 1)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.186.0.2", "169.254.169.254", "::1", "192.168.1.1", *NOT_ONE_MACHINE]
)
def test_no_inner_address_in_production(monkeypatch: pytest.MonkeyPatch, settings: Any, address: str) -> None:
    """A name that leads inside, or inside among others, is not called: neither guests nor this machine."""
    settings.PRODUCTION = True
    found = [(0, 0, 0, "", ("9.9.9.9", 443)), (0, 0, 0, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(httpx, "Client", lambda **_: pytest.fail("called"))
    with pytest.raises(OutsideUnreachable, match="public Internet"):
        add_checkpoint("https://witness.example/", "", 0, 1)
    assert url_problem("http://127.0.0.1/")


def test_the_same_key_is_another_witness_only_once() -> None:
    vkey = str(new_key("w.example", COSIGNATURE_V1)[1])
    witnesses.witness_register(actor=TESTER, vkey=vkey, url="https://w.example/")
    with pytest.raises(witnesses.WitnessError):
        witnesses.witness_register(actor=TESTER, vkey=vkey, url="https://w.example/")
