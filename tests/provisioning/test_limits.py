"""Limits from the plan: copied when a runtime is made, told in its papers, never outside what a guest takes."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from protocol.enrolment import Limits, Personalisation
from provisioning.enrolment import personalisation
from provisioning.models import GuestImage, Host
from provisioning.services import runtime_create
from tenants.models import Plan, Tenant
from tenants.services import plan_save
from tests.conftest import TESTER

LIMITS = {"processes": 256, "jobs_running": 3, "jobs_waiting": 9}


@pytest.fixture
def ready(make_host: Callable[..., Host], image: GuestImage, tenant: Tenant) -> Tenant:
    make_host()
    assert not image.retired
    return tenant


def test_a_runtimes_papers_tell_its_plans_limits(ready: Tenant, settings: Any) -> None:
    """As they were when it was made; a later change of the plan is not its own."""
    settings.GATEWAY_IDLE_SECONDS = 77
    for name, value in LIMITS.items():
        setattr(ready.plan, name, value)
    plan_save(actor=TESTER, plan=ready.plan)
    runtime = runtime_create(actor=TESTER, tenant=ready).runtime
    ready.plan.jobs_running = 5
    plan_save(actor=TESTER, plan=ready.plan)
    runtime.refresh_from_db()
    told = Personalisation.from_bytes(personalisation(runtime, None).to_bytes()).limits
    assert told == Limits(memory_mib=512, gateway_idle_seconds=77, **LIMITS)


@pytest.mark.parametrize("field", LIMITS)
@pytest.mark.parametrize("value", [0, 5000])
def test_a_plan_has_no_limit_that_a_guest_refuses(plan: Plan, field: str, value: int) -> None:
    """The form says so, and so does the database."""
    setattr(plan, field, value)
    with pytest.raises(ValidationError) as refused:
        plan_save(actor=TESTER, plan=plan)
    assert field in refused.value.message_dict
    with pytest.raises(IntegrityError), transaction.atomic():
        Plan.objects.filter(pk=plan.pk).update(**{field: value})
