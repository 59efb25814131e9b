from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.context import command
from breakglass.models import Webhook
from breakglass.refusals import TicketRefused
from breakglass.services.webhooks import webhook_add, webhook_retire
from tenants.models import Tenant


class Command(BaseCommand):
    help = "Tell an address of tickets. `add` prints its key once; the receiver checks the HMAC with it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("deed", choices=["add", "retire", "list"])
        parser.add_argument("--name", help="what people call it")
        parser.add_argument("--url", help="https://…")
        parser.add_argument("--tenant", help="a tenant's short name: told of its tickets only; else of all")
        parser.add_argument("--id", type=int, help="of the one to retire")

    def handle(self, *args: Any, **given: Any) -> None:
        try:
            getattr(self, f"_{given['deed']}")(given)
        except TicketRefused as refusal:
            raise CommandError(str(refusal)) from None

    def _add(self, given: dict[str, Any]) -> None:
        if not given["name"] or not given["url"]:
            raise CommandError("Give --name and --url.")
        tenant = Tenant.objects.filter(slug=given["tenant"], offboarded_at=None).first()
        if given["tenant"] and tenant is None:
            raise CommandError(f"There is no tenant {given['tenant']}.")
        hook, key = webhook_add(actor=command("webhook"), name=given["name"], url=given["url"], tenant=tenant)
        self.stdout.write(f"{hook.pk}  {hook.name}: key {key}   (shown once; keep it at the receiver)")

    def _retire(self, given: dict[str, Any]) -> None:
        hook = Webhook.objects.filter(pk=given["id"]).first()
        if hook is None:
            raise CommandError("Give --id of one that `webhook list` shows.")
        webhook_retire(actor=command("webhook"), webhook=hook)
        self.stdout.write(f"{hook.pk}  {hook.name}: retired")

    def _list(self, given: dict[str, Any]) -> None:
        for hook in Webhook.objects.select_related("tenant"):
            whose = hook.tenant.slug if hook.tenant else "approvers"
            self.stdout.write(f"{hook.pk}  {hook.name}  {whose}  {hook.url}  {hook.retired_at or 'in use'}")
