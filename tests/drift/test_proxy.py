"""The proxy's part of drift: what a keeper says against what the portal made."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from provisioning.drift.proxy import judge
from provisioning.egress.reports import NOTHING, Report
from provisioning.egress.rules import AllowedHost, Rules, TenantRules
from provisioning.egress.wanted import digest_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)


def rules(generation: int = 7, name: str = "api.github.com") -> Rules:
    served = TenantRules(ONE, "ptdrift-0001", "10.157.0.1", "10.157.0.2", (AllowedHost(name, 443),))
    return Rules(generation, "drift", (served,))


def said(**more: object) -> Report:
    """A keeper that is well."""
    given = {"generation": 7, "digest": rules().digest, "seen_at": NOW, "serving": frozenset({ONE})}
    return Report(**{**given, **more})  # type: ignore[arg-type]


def details(report: Report, generation: int = 7, wanted: Rules | None = None) -> list[str]:
    wanted = wanted or rules()
    found = judge(generation, digest_of(rules()), wanted, report, NOW)
    return [f"{each.code}: {each.detail}" for each in found]


def test_a_keeper_that_follows_is_well() -> None:
    assert details(said()) == []


def test_a_host_where_nobody_was_served_needs_no_keeper() -> None:
    assert judge(0, "", rules(1), NOTHING, NOW) == []


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (NOTHING, "proxy: the keeper says nothing"),
        (
            said(seen_at=NOW - timedelta(minutes=5)),
            "proxy: the keeper is silent since 2026-01-01 11:55:00 UTC",
        ),
        (said(problem="Squid died."), "proxy: Squid died."),
        (said(walls=False), "walls_down: "),
        (said(generation=9), "proxy: follows rules 9, which the portal did not make"),
        (said(generation=6), "proxy_behind: follows rules 6 instead of 7"),
        (said(digest="0" * 64), "proxy: rules 7 are not those that the portal made"),
        (said(serving=frozenset()), f"proxy: serves others than its rules say: rt-{ONE}"),
        (said(serving=frozenset({ONE, TWO})), f"proxy: serves others than its rules say: rt-{TWO}"),
    ],
)
def test_what_is_wrong_is_told(report: Report, told: str) -> None:
    assert details(report) == [told]


def test_a_change_on_its_way_is_no_drift() -> None:
    """The rows say more than the newest rules do: the sweeper is about to make the next."""
    assert details(said(), wanted=rules(name="github.com")) == []
