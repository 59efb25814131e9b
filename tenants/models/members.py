"""Members' keys, and what owners have signed."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from tenants.models.registry import Tenant


class MemberKey(models.Model):
    """A person's public key, registered for one tenant. It opens nothing until an owner signs it in."""

    class Kind(models.TextChoices):
        DEVICE = "device", "device key"
        PASSKEY = "passkey", "passkey"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="member_keys")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="member_keys")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    public_key = models.CharField(
        max_length=1024, help_text="Hexadecimal. Device: 32 bytes; passkey: SubjectPublicKeyInfo in DER."
    )
    fingerprint = models.CharField(max_length=64, help_text="As protocol.persons.PersonKey has it.")
    credential_id = models.CharField(
        max_length=1400, blank=True, help_text="Base64url; passkeys only: how the browser finds it."
    )
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at", "pk"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "fingerprint"], name="one_key_per_tenant_and_fingerprint"
            ),
            models.CheckConstraint(
                condition=Q(kind="device", credential_id="") | (Q(kind="passkey") & ~Q(credential_id="")),
                name="only_a_passkey_has_a_credential_id",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint[:16]}"


class Signed(models.Model):
    """What an owner has signed; the database refuses to change or remove a row (tenants/triggers.py)."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="%(class)ss")
    version = models.PositiveIntegerField()
    document = models.JSONField(help_text="In canonical form.")
    signature = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        abstract = True


class KeyringVersion(Signed):
    """One version of a tenant's keyring, as guests get it."""

    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-version"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version"], name="one_keyring_per_tenant_and_version"),
            models.CheckConstraint(condition=Q(version__gte=1), name="keyring_versions_begin_at_one"),
        ]

    def __str__(self) -> str:
        return f"keyring {self.version} ({self.hash[:16]})"


class ConsentVersion(Signed):
    """One version of what a tenant's owners agree to, as guests get it."""

    keyring = models.ForeignKey(
        KeyringVersion,
        on_delete=models.PROTECT,
        related_name="consents",
        help_text="The one that named the signer an owner; a guest takes the consent while that one holds.",
    )

    class Meta:
        ordering = ["-version"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version"], name="one_consent_per_tenant_and_version"),
            models.CheckConstraint(condition=Q(version__gte=1), name="consent_versions_begin_at_one"),
        ]

    def __str__(self) -> str:
        return f"consent {self.version}"
