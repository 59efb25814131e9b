"""How the log is, in numbers for a monitoring system. All from the database, at the moment of asking."""

from collections.abc import Iterator

from django.db.models import Max
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from audit import proofs
from audit.models import SequencerFence, Witness
from audit.sequencer.trouble import CODES


def render() -> bytes:
    """The text format of Prometheus, version 0.0.4. Nothing in it names a tenant or a person."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Log())
    return generate_latest(registry)


class _Log(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from _tree()
        yield from _sequencer()
        yield from _witnesses()


def _tree() -> Iterator[GaugeMetricFamily]:
    head, lag = proofs.latest(), proofs.lag()
    yield _gauge("portal_log_size", "Leaves in the newest checkpoint.", head.size if head else 0)
    signed = head.at.timestamp() if head else 0.0
    yield _gauge("portal_log_signed_timestamp_seconds", "When the newest checkpoint was signed.", signed)
    yield _gauge("portal_sequencer_lag_entries", "Committed entries without a leaf.", lag.entries)
    yield _gauge("portal_sequencer_lag_seconds", "Age of the oldest of them; 0 without any.", lag.seconds)


def _sequencer() -> Iterator[GaugeMetricFamily]:
    row = SequencerFence.objects.filter(pk=SequencerFence.ROW).first()
    seen = row.at.timestamp() if row and row.at else 0.0
    yield _gauge("portal_sequencer_seen_timestamp_seconds", "When it last said that it is there.", seen)
    trouble = GaugeMetricFamily(
        "portal_sequencer_trouble", "1 for the reason why it refuses to sign.", labels=["code"]
    )
    for code in CODES:
        trouble.add_metric([code], 1 if row and row.trouble == code else 0)
    yield trouble


def _witnesses() -> Iterator[GaugeMetricFamily]:
    size = GaugeMetricFamily(
        "portal_witness_size", "Leaves in the newest checkpoint that it signed.", labels=["witness"]
    )
    signed = GaugeMetricFamily(
        "portal_witness_signed_timestamp_seconds", "When it last signed one.", labels=["witness"]
    )
    found = Witness.objects.filter(retired_at=None).annotate(
        size=Max("cosignatures__checkpoint__size"), signed=Max("cosignatures__signed_at")
    )
    for name, leaves, at in found.values_list("name", "size", "signed"):
        size.add_metric([name], leaves or 0)
        signed.add_metric([name], at.timestamp() if at else 0.0)
    yield size
    yield signed


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=value)
