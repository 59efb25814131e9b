import secrets
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.core.management.base import BaseCommand
from django.db import transaction

from audit import personal
from audit.context import command
from audit.services import record

OPERATOR_PERMISSIONS = (
    "operate_tenant",
    *(f"{verb}_{model}" for model in ("tenant", "plan", "membership") for verb in ("view", "add", "change")),
    "delete_membership",
    "view_user",
    *(
        f"view_{model}"
        for model in ("host", "guestimage", "runtime", "operation", "step", "entry", "driftfinding")
    ),
    *(f"view_{model}" for model in ("memberkey", "keyringversion", "consentversion")),
    *(f"view_{model}" for model in ("tenantkey", "connectorsecret", "tenantconnector", "egressrecord")),
    "add_tenantconnector",
    *(f"view_{model}" for model in ("ticket", "passkey", "approversetversion", "setproposal", "webhook")),
    "propose_set",
    "retire_passkey",
    *(f"{verb}_witness" for verb in ("view", "add", "change")),
    *(f"{verb}_{model}" for model in ("witnessrefusal", "dispute") for verb in ("view", "change")),
    *(f"{verb}_mismatch" for verb in ("view", "change")),
    *(f"change_{model}" for model in ("host", "guestimage", "runtime", "operation")),
)


class Command(BaseCommand):
    help = (
        "Create the demo operator and tenant owner once; their passwords are printed once and kept nowhere."
    )

    @transaction.atomic
    def handle(self, *args: Any, **given: Any) -> None:
        group = _group()
        for username, is_staff in (("operator", True), ("owner", False)):
            if User.objects.filter(username=username).exists():
                self.stdout.write(f"{username}: exists")
                continue
            password = secrets.token_urlsafe(15)
            user = User.objects.create_user(username=username, password=password, is_staff=is_staff)
            if is_staff:
                user.groups.add(group)
            record(
                action="user.created",
                actor=command("demo_people"),
                target=("user", user.pk),
                data={"staff": is_staff, "groups": [str(group.pk)] if is_staff else []},
                personal={"user": personal.username(user)},
            )
            self.stdout.write(f"{username}: password {password}   (shown once; write it down)")


def _group() -> Group:
    """The operators' group, with just the permissions above; an entry if that changed anything."""
    group, _ = Group.objects.get_or_create(name="operators")
    wanted = set(Permission.objects.filter(codename__in=OPERATOR_PERMISSIONS))
    has = set(group.permissions.all())
    if wanted != has:
        group.permissions.set(wanted)
        record(
            action="group.permissions_changed",
            actor=command("demo_people"),
            target=("group", group.pk),
            data={"permissions": {"added": _codes(wanted - has), "removed": _codes(has - wanted)}},
        )
    return group


def _codes(permissions: set[Permission]) -> list[str]:
    return sorted(f"{app}.{code}" for code, app, _ in (each.natural_key() for each in permissions))
