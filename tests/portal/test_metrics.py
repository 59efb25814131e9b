"""/metrics: the log's numbers, for this machine and for staff."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.utils import timezone

from audit.context import command
from audit.models import Checkpoint, Cosignature, SequencerFence, Witness
from audit.services import record
from protocol.notes import COSIGNATURE_V1, new_key
from tests.portal.conftest import World

pytestmark = pytest.mark.django_db
PROXY = {"Portal-Address": "127.0.0.1"}
"""What nginx puts on every request that it passes on; also on those from this machine."""


def numbers(client: Client) -> dict[str, float]:
    """Each sample's name, with its labels, and its value."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    lines = response.content.decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    }


def test_an_empty_log() -> None:
    seen = numbers(Client())
    assert seen["portal_log_size"] == seen["portal_sequencer_lag_entries"] == 0
    assert seen['portal_sequencer_trouble{code="rolled_back"}'] == 0


def test_the_logs_numbers(sequence: Callable[[], int]) -> None:
    """Size, lag, when it was signed, when the sequencer was there, and what it refuses."""
    started = timezone.now()
    with transaction.atomic():
        record(action="thing.done", actor=command("test"))
    assert numbers(Client())["portal_sequencer_lag_entries"] >= 1
    total = sequence()
    with transaction.atomic():
        record(action="thing.done", actor=command("test"))
    SequencerFence.objects.update(trouble="forked")
    seen = numbers(Client())
    assert seen["portal_log_size"] == total
    assert seen["portal_sequencer_lag_entries"] == 1
    assert 0 < seen["portal_sequencer_lag_seconds"] < 60
    assert seen["portal_log_signed_timestamp_seconds"] >= started.timestamp()
    assert seen["portal_sequencer_seen_timestamp_seconds"] >= started.timestamp()
    assert seen['portal_sequencer_trouble{code="forked"}'] == 1
    assert seen['portal_sequencer_trouble{code="rolled_back"}'] == 0


def test_what_each_witness_has_signed(sequence: Callable[[], int]) -> None:
    with transaction.atomic():
        record(action="thing.done", actor=command("test"))
    total = sequence()
    _, vkey = new_key("outside.example/witness", COSIGNATURE_V1)
    witness = Witness.objects.create(name=vkey.name, vkey=str(vkey), url="https://outside.example/")
    name = 'portal_witness_size{witness="outside.example/witness"}'
    assert numbers(Client())[name] == 0
    signed = timezone.now() - timedelta(minutes=1)
    Cosignature.objects.create(
        witness=witness, checkpoint=Checkpoint.objects.get(), line="-", signed_at=signed
    )
    assert numbers(Client())[name] == total


def test_through_the_proxy_it_is_for_operators_of_all_tenants(world: World) -> None:
    """For everybody else there is no such page, even where the browser runs on this machine."""
    for role in ("anonymous", "stranger", "member", "owner", "half staff"):
        assert world.client(role).get("/metrics", headers=PROXY).status_code == 404
    for role in ("operator", "superuser"):
        assert world.client(role).get("/metrics", headers=PROXY).status_code == 200


def test_from_another_machine_it_is_for_them_too(operator: User, make_user: Callable[..., User]) -> None:
    """Where no proxy stands in front, the connection's own address counts."""
    assert Client(REMOTE_ADDR="192.0.2.7").get("/metrics").status_code == 404
    assert Client(REMOTE_ADDR="127.0.0.1").get("/metrics").status_code == 200
    client = Client(REMOTE_ADDR="192.0.2.7")
    client.force_login(make_user("staff", is_staff=True))
    assert client.get("/metrics").status_code == 404
    client.force_login(operator)
    assert client.get("/metrics").status_code == 200


def test_no_sample_names_a_tenant(world: World) -> None:
    content = world.client("operator").get("/metrics").content.decode()
    assert not re.search(rf"{world.mine.tenant.slug}|{world.mine.tenant.pk}", content)
