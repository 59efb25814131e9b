"""Steps that bring a guest up, recognise it, and shut it down."""

import time

from django.conf import settings
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from provisioning import access, enrolment, members, starting, trust, witnessing
from provisioning.driver import Power
from provisioning.models import Runtime
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.specs import runtime_spec
from provisioning.steps import notes
from provisioning.steps.context import Context, StepFailed
from provisioning.wrapping import unwrap

POLL_SECONDS = 0.5


def start(context: Context) -> None:
    """Power on; nothing to do if it runs. A disk that is to be larger grows before the guest looks at it."""
    runtime = context.runtime
    if context.driver.power(runtime.pk) not in {Power.RUNNING, Power.PAUSED}:
        notes.power_on(context)
    context.driver.start(runtime_spec(runtime))
    context.driver.grow_volume(runtime_spec(runtime))
    _observe(context, Power.RUNNING)


def reach(context: Context) -> None:
    """Wait until something answers on the guest's one port. Fails if the guest dies meanwhile."""
    await_guest(context, context.step_started)


def await_guest(context: Context, since: float, *, cancellable: bool = True) -> None:
    """The same, for as long as a guest may take that was started at ``since`` (seconds since the epoch)."""
    runtime = context.runtime
    client = client_of(context, runtime)
    limit = settings.BOOT_TIMEOUT_SECONDS
    while True:
        if client.listening():
            return
        waited = time.time() - since
        if waited > limit:
            raise StepFailed(
                "guest_silent",
                f"The guest did not answer within {limit:.0f} s. Check the image, then try again.",
            )
        if context.driver.power(runtime.pk) not in {Power.RUNNING, Power.UNKNOWN}:
            raise StepFailed("guest_stopped", "The guest powered off while it was starting.")
        if cancellable and context.operation.cancel_requested:
            raise StepFailed("cancelled", "Cancelled on request.")
        context.progress(f"The guest has been starting for {waited:.0f} s (limit {limit:.0f} s).")
        time.sleep(POLL_SECONDS)


def enrol(context: Context) -> None:
    """Issue a certificate to the guest that proves the one-time secret; skip if it holds a valid one."""
    runtime = context.runtime
    client = client_of(context, runtime)
    if runtime.enrolment_secret is None:
        return
    secret = unwrap(runtime.enrolment_secret, identity=f"runtime/{runtime.pk}/enrolment_secret")
    try:
        issued = enrolment.enrol(client, runtime, secret)
    except AgentUnreachable as error:
        raise StepFailed("agent_unreachable", str(error), retryable=True) from None
    except AgentRefused as error:
        if error.code == "already_enrolled":
            return  # a worker before us died between the certificate and this line; `ready` checks it
        raise StepFailed(
            "enrolment_refused",
            f"The guest refused to enrol: {error.code}.",
            # A guest whose clock has just been set may take the next token.
            retryable=error.status == 401,
        ) from None
    except enrolment.EnrolmentFailed as error:
        raise StepFailed("enrolment_failed", str(error)) from None
    with context.changing() as changing:
        changing.sealing_public_key = issued.sealing_public_key
        changing.certificate_serial = issued.serial
        changing.certificate_expires_at = issued.expires_at
        changing.certificate_issuer = issued.issuer
        record(
            action="runtime.enrolled",
            actor=SYSTEM,
            tenant_id=changing.tenant_id,
            target=("runtime", changing.pk),
            data={"serial": issued.serial, "sealing_public_key": issued.sealing_public_key},
        )


def configure(context: Context) -> None:
    """Deliver what owners have signed. What the guest refuses is shown; it starts all the same."""
    runtime = context.runtime
    try:
        client = client_of(context, runtime)
        members.confirm(runtime, client)
        starting.tell(runtime, client)
    except (AgentUnreachable, AgentRefused) as error:
        raise StepFailed("not_configured", f"The guest did not take it: {error}", retryable=True) from None


def confirm(context: Context) -> None:
    """Ask the guest, over mutual TLS, who it is; then destroy the spent secret."""
    runtime = context.runtime
    client = client_of(context, runtime)
    try:
        status = client.status()
        if status.get("runtime_id") == str(runtime.pk) and bool(status.get("suspended")) != bool(
            runtime.access_closed_by
        ):
            access.confirm(runtime, client)
        if status.get("runtime_id") == str(runtime.pk):
            trust.confirm(runtime, client, str(status.get("trust")))
            witnessing.follow(runtime, status)
    except (AgentUnreachable, AgentRefused) as error:
        raise StepFailed(
            "not_ready", f"The guest does not answer over mutual TLS: {error}", retryable=True
        ) from None
    if status.get("runtime_id") != str(runtime.pk):
        raise StepFailed("wrong_guest", "Another guest answered at this runtime's address.")
    papers = enrolment.personalisation(runtime, None)
    context.driver.ensure_personalisation(runtime_spec(runtime), papers.to_bytes())
    with context.changing() as changing:
        changing.enrolment_secret = None
        changing.agent_address = "{}:{}".format(*context.driver.endpoint(runtime_spec(runtime)))
        changing.first_ready_at = changing.first_ready_at or timezone.now()


def shut_down(context: Context) -> None:
    """Ask the guest to shut down; cut its power when the time is up."""
    runtime = context.runtime
    if context.driver.power(runtime.pk) in {Power.RUNNING, Power.PAUSED}:
        context.progress("Asked the guest to shut down.")
        if not context.driver.shutdown(runtime.pk, settings.SHUTDOWN_TIMEOUT_SECONDS):
            context.driver.destroy(runtime.pk)
            context.progress("The guest did not shut down in time; its power was cut.")
    _observe(context, Power.OFF)


def _observe(context: Context, power: Power) -> None:
    with context.changing() as runtime:
        runtime.power, runtime.power_seen_at = power.value, timezone.now()


def client_of(context: Context, runtime: Runtime) -> RuntimeClient:
    """For the agent, where the host's driver says that it is."""
    address, port = context.driver.endpoint(runtime_spec(runtime))
    return RuntimeClient(runtime, address, port)
