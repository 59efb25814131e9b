"""Steps that set a machine aside, and that put small things right on one that runs."""

from django.utils import timezone

from provisioning.steps.context import Context


def suspend(context: Context) -> None:
    """Pause the machine; its memory stays for whoever looks into it. One that is off stays off."""
    context.driver.suspend(context.runtime.pk)
    power = context.driver.power(context.runtime.pk)
    with context.changing() as runtime:
        runtime.power, runtime.power_seen_at = power.value, timezone.now()


def cut(context: Context) -> None:
    """Unplug every interface, also those that somebody added.

    The proxy lets nothing through for a runtime in quarantine, and learns of it from the sweeper. It is not
    waited for: a keeper that does not answer must not keep staff from what comes next.
    """
    context.driver.cut(context.runtime.pk)


def settle(context: Context) -> None:
    """Plug the machine in, and see that it does not start with the host.

    Never one in quarantine: asking for that ends this operation, whose worker gets no driver any more.
    """
    context.driver.settle(context.runtime.pk)
