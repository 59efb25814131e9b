from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.context import command
from tenants.models import Tenant
from tenants.services import TenantError, tenant_key_rotate

ACTOR = command("tenant_keys_rotate")


class Command(BaseCommand):
    help = "Make a tenant's next key, wrap what it keeps anew, and destroy the old key."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the tenant's short name")

    def handle(self, *args: Any, **given: Any) -> None:
        tenant = Tenant.objects.filter(slug=given["slug"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {given['slug']!r}. Give its short name.")
        try:
            key = tenant_key_rotate(actor=ACTOR, tenant=tenant)
        except TenantError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(f"{tenant.slug}: key {key.version} is current; those before are destroyed.")
