"""What a host's proxy should let through, rendered whole from the rows. Reads only."""

from dataclasses import replace

from django.conf import settings

from provisioning.addresses import link
from provisioning.driver import naming
from provisioning.egress.rules import AllowedHost, Rules, TenantRules
from provisioning.models import Host, Runtime
from tenants.selectors import allowed_hosts

Reach = list[list[str | int]]
"""Names and ports, as a row keeps them."""


def rules_for(host: Host, generation: int) -> Rules:
    """The rule document for ``host``.

    Raises:
        RulesError: the rows ask for more than a document can say.
    """
    served = Runtime.objects.filter(host=host, egress=True)
    tenants = sorted((_rules_of(runtime) for runtime in served), key=lambda each: str(each.runtime))
    return Rules(generation, settings.FLEET_ID, tuple(tenants))


def _rules_of(runtime: Runtime) -> TenantRules:
    ends = link(runtime.network_index)
    return TenantRules(
        runtime=runtime.pk,
        tap=naming.tap_name(settings.FLEET_ID, runtime.network_index),
        listen=ends.host_address,
        guest=ends.guest_address,
        hosts=_hosts_of(runtime),
    )


def _hosts_of(runtime: Runtime) -> tuple[AllowedHost, ...]:
    """What its tenant's connectors need; nothing at all for a runtime that is set aside."""
    if runtime.phase == Runtime.Phase.QUARANTINED:
        return ()
    return tuple(sorted(AllowedHost(name, port) for name, port in allowed_hosts(runtime.tenant_id)))


def digest_of(rules: Rules) -> str:
    """SHA-256 of what ``rules`` say, whatever their number."""
    return replace(rules, generation=1).digest


def reach(rules: TenantRules) -> Reach:
    """The names and ports of one runtime."""
    return [[host.name, host.port] for host in rules.hosts]
