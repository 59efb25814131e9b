"""What migrations make of rows that older versions wrote."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from audit.context import command
from provisioning.models import Host, Runtime
from provisioning.services import runtime_create
from tenants.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True)


def migrate(*targets: tuple[str, str]) -> None:
    MigrationExecutor(connection).migrate(list(targets))


def test_a_runtime_without_a_limit_is_as_its_plan(
    simulated_host: Host, image: object, make_tenant: Callable[..., Tenant]
) -> None:
    """0 meant none to libvirt, and would be its own size to whoever compares; other figures stay."""
    one, other = [
        runtime_create(actor=command("test"), tenant=make_tenant(slug)).runtime for slug in ("one", "other")
    ]
    graph = MigrationExecutor(connection).loader.graph
    (here,) = [node for node in graph.nodes if node[1].endswith("_no_iops_limit_is_none")]
    migrate(*graph.nodes[here].dependencies)
    Runtime.objects.filter(pk=one.pk).update(iops=0)
    Runtime.objects.filter(pk=other.pk).update(iops=7)
    migrate(*graph.leaf_nodes())
    found = dict(Runtime.objects.values_list("tenant__slug", "iops"))
    assert found == {"one": None, "other": 7}
