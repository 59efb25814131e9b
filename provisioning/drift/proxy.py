"""The egress proxy: what its keeper says it does against what the rows say it should do."""

from datetime import datetime

from provisioning.drift.findings import Finding, finding
from provisioning.egress.delivery import SILENCE
from provisioning.egress.reports import Report
from provisioning.egress.rules import Rules, RulesError
from provisioning.egress.wanted import digest_of, rules_for
from provisioning.models import Host


def of_proxy(host: Host, report: Report, now: datetime) -> list[Finding]:
    """What is wrong with the proxy of ``host``, whose row is as it was when the keeper was asked."""
    try:
        rules = rules_for(host, max(host.egress_generation, 1))
    except RulesError as error:
        return [finding("proxy", f"the rules cannot be written: {error}")]
    return judge(host.egress_generation, host.egress_digest, rules, report, now)


def judge(generation: int, digest: str, rules: Rules, report: Report, now: datetime) -> list[Finding]:
    """The same, pure.

    Args:
        generation: the newest rules that the portal has made; 0: none.
        digest: what those say, by the row.
        rules: what they would say today, under that number.
    """
    if generation == 0 and report.generation == 0:
        return []  # nobody was ever served here
    if report.seen_at is None:
        return [finding("proxy", "the keeper says nothing")]
    found = []
    if now - report.seen_at > SILENCE:
        found.append(finding("proxy", f"the keeper is silent since {report.seen_at:%Y-%m-%d %H:%M:%S} UTC"))
    if not report.walls:
        found.append(finding("walls_down"))
    if report.problem:
        found.append(finding("proxy", report.problem))
    if report.generation > generation:
        found.append(finding("proxy", f"follows rules {report.generation}, which the portal did not make"))
    elif report.generation < generation:
        found.append(finding("proxy_behind", f"follows rules {report.generation} instead of {generation}"))
    elif digest == digest_of(rules):  # else a change is on its way
        found += _unlike(rules, report)
    return found


def _unlike(rules: Rules, report: Report) -> list[Finding]:
    if report.digest != rules.digest:
        return [finding("proxy", f"rules {rules.generation} are not those that the portal made")]
    wrong = report.serving ^ {each.runtime for each in rules.tenants}
    return [finding("proxy", f"serves others than its rules say: rt-{each}") for each in sorted(wrong)]
