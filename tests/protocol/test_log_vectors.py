"""Known answers of the log's formats: published ones, and those of another implementation (tests/vectors/log.mjs)."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from protocol import merkle
from protocol.checkpoints import Checkpoint, check_cosignature, cosign, opened, signed
from protocol.notes import COSIGNATURE_V1, VerifierKey, verify, vkey_of
from protocol.personal import commitment
from protocol.receipts import Proof
from protocol.tiles import bundle, unbundle
from protocol.witnessing import Request, State, judge
from tests.protocol.logs import Log

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/log.json").read_text())
LOG = Log([f'{{"n":{n}}}' for n in range(VECTORS["entries"])])
SEED, ORIGIN = bytes.fromhex(VECTORS["log"]["seed"]), VECTORS["log"]["origin"]
WITNESS_SEED, WITNESS = bytes.fromhex(VECTORS["witness"]["seed"]), VECTORS["witness"]["name"]
LOG_KEY = VerifierKey.parse(VECTORS["log"]["vkey"])
WITNESS_KEY = VerifierKey.parse(VECTORS["witness"]["vkey"])

# The leaves and roots by which implementations of Certificate Transparency have long been compared.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_published_roots(size: int) -> None:
    """The trees of RFC 9162 over well-known leaves."""
    leaves = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES[:size]]
    assert merkle.root(leaves).hex() == ROOTS[size - 1]


def test_the_empty_tree() -> None:
    """RFC 9162: the hash of nothing."""
    assert merkle.root([]) == merkle.EMPTY_ROOT == sha256(b"").digest() == merkle.Frontier().root()


def test_a_published_note() -> None:
    """A signed note of Go's sumdb, whose format C2SP has taken."""
    key = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    line = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    assert verify(f"{text}\n{line}", key) == text.encode()


@pytest.mark.parametrize("size", range(20))
def test_roots(size: int) -> None:
    """Of the first trees."""
    assert merkle.root(LOG.leaves[:size]).hex() == VECTORS["roots"][size]


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=lambda v: f"{v['index']} in {v['size']}")
def test_inclusion(vector: dict[str, Any]) -> None:
    """The same hashes in the same order."""
    proof = merkle.inclusion_proof(LOG.leaves, vector["index"], vector["size"])
    assert [one.hex() for one in proof] == vector["proof"]


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=lambda v: f"{v['old']} to {v['size']}")
def test_consistency(vector: dict[str, Any]) -> None:
    """The same hashes in the same order."""
    proof = merkle.consistency_proof(LOG.leaves, vector["old"], vector["size"])
    assert [one.hex() for one in proof] == vector["proof"]


def test_keys() -> None:
    """The public halves, their names and ids."""
    assert vkey_of(ORIGIN, SEED) == LOG_KEY
    assert vkey_of(WITNESS, WITNESS_SEED, COSIGNATURE_V1) == WITNESS_KEY


def test_a_checkpoint() -> None:
    """Ed25519 is deterministic: the whole note is the same."""
    checkpoint = Checkpoint(ORIGIN, LOG.size, merkle.root(LOG.leaves))
    assert signed(checkpoint, SEED, ORIGIN) == VECTORS["note"]
    assert opened(VECTORS["note"], LOG_KEY) == checkpoint


def test_a_cosignature() -> None:
    """And the witness's line under it."""
    time, line = VECTORS["cosignature"]["time"], VECTORS["cosignature"]["line"]
    assert cosign(VECTORS["note"], WITNESS, WITNESS_SEED, time) == line
    assert check_cosignature(VECTORS["note"] + line, WITNESS_KEY) == time


def test_a_request_to_a_witness() -> None:
    """It is read, written again, and accepted."""
    request = Request.parse(VECTORS["request"])
    assert request.to_text() == VECTORS["request"]
    assert judge(State(257, merkle.root(LOG.leaves[:257])), request, LOG_KEY).size == 300


def test_a_proof() -> None:
    """A tlog-proof is read, written again, and fits."""
    proof = Proof.parse(VECTORS["proof"])
    assert proof.to_text() == VECTORS["proof"]
    merkle.verify_inclusion(LOG.leaves[17], 17, 300, proof.hashes, opened(proof.note, LOG_KEY).root)


def test_a_bundle() -> None:
    """Lengths before entries."""
    entries = [event.encode() for event in LOG.events[VECTORS["bundle"]["first"] :]]
    data = bytes.fromhex(VECTORS["bundle"]["data"])
    assert bundle(entries) == data
    assert unbundle(data) == entries


@pytest.mark.parametrize("name", VECTORS["tiles"])
def test_tiles(name: str) -> None:
    """The helper that the other tests make tiles with."""
    level, index, width = map(int, name.split("/"))
    assert sha256(LOG.read_tile(level, index, width)).hexdigest() == VECTORS["tiles"][name]


def test_a_commitment() -> None:
    """Purpose, salt, canonical document."""
    vector = VECTORS["commitment"]
    made = commitment(bytes.fromhex(vector["salt"]), vector["kind"], vector["value"])
    assert made.hex() == vector["commitment"]
