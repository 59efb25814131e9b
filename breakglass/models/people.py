"""Passkeys of staff, and the versions of the set of approvers."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from audit.models.append_only import AppendOnlyModel
from provisioning.models import Runtime
from tenants.models import KeyringVersion, Tenant

PERSON = "user:%s"
"""How a signed document names a person: the same in all their keys."""


class Passkey(models.Model):
    """One device of a staff person, to request with and to approve with.

    The database keeps who holds it, lets its counter only rise, and never takes back that it is retired
    (breakglass/triggers.py). So no key passes to another account.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="break_glass_keys"
    )
    public_key = models.CharField(
        max_length=1024, unique=True, help_text="SubjectPublicKeyInfo in DER, hexadecimal."
    )
    credential_id = models.CharField(
        max_length=1400, unique=True, help_text="Base64url: how the browser finds it."
    )
    fingerprint = models.CharField(
        max_length=64, unique=True, help_text="As protocol.persons.PersonKey has it."
    )
    name = models.CharField(max_length=80)
    counter = models.PositiveBigIntegerField(default=0, help_text="What its last assertion here counted.")
    registered_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True)
    cloned_at = models.DateTimeField(
        null=True, help_text="When an assertion counted backwards: a copy of it is about. It signs no more."
    )

    class Meta:
        verbose_name = "passkey"
        ordering = ["registered_at", "pk"]
        default_permissions = ("view",)
        permissions = [("retire_passkey", "Can retire somebody else's passkey")]
        constraints = [
            models.CheckConstraint(condition=~Q(credential_id=""), name="staff_passkey_has_a_credential_id"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:16]})"

    @property
    def person(self) -> str:
        """As signed documents name its holder."""
        return PERSON % self.user_id


class ApproverSetVersion(AppendOnlyModel):
    """One version of the set of approvers, signed by a quorum of the one before."""

    version = models.PositiveIntegerField(unique=True)
    hash = models.CharField(max_length=64)
    document = models.JSONField(help_text="In canonical form.")
    signatures = models.JSONField(help_text="Of the version before it; empty for the first.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "approver set"
        ordering = ["-version"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(condition=Q(version__gte=1), name="approver_sets_begin_at_one"),
        ]

    def __str__(self) -> str:
        return f"approver set {self.version} ({self.hash[:16]})"


class SetProposal(models.Model):
    """A next version that waits for its quorum."""

    class State(models.TextChoices):
        OPEN = "open"
        ACCEPTED = "accepted"
        WITHDRAWN = "withdrawn"

    version = models.PositiveIntegerField()
    document = models.JSONField(help_text="In canonical form.")
    hash = models.CharField(max_length=64)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=12, choices=State.choices, default=State.OPEN)

    class Meta:
        verbose_name = "proposed approver set"
        ordering = ["-at", "-pk"]
        default_permissions = ("view",)
        permissions = [("propose_set", "Can propose a set of approvers without being one")]
        constraints = [
            models.UniqueConstraint(
                fields=["hash"], condition=Q(state="open"), name="one_open_proposal_of_a_set"
            ),
        ]

    def __str__(self) -> str:
        return f"proposal of set {self.version} ({self.hash[:16]})"


class SetSignature(AppendOnlyModel):
    """One approver's signature under a proposal."""

    proposal = models.ForeignKey(SetProposal, on_delete=models.PROTECT, related_name="signatures")
    passkey = models.ForeignKey(Passkey, on_delete=models.PROTECT, related_name="+")
    signature = models.JSONField(help_text="As it came, with the signer's fingerprint.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["proposal", "passkey"], name="one_signature_of_a_key_each"),
        ]

    def __str__(self) -> str:
        return f"{self.passkey_id} under {self.proposal_id}"


class TenantApprovers(AppendOnlyModel):
    """A tenant's owner has named the set whose quorum its machine shall believe."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="approvers_named")
    set = models.ForeignKey(ApproverSetVersion, on_delete=models.PROTECT, related_name="+")
    keyring = models.ForeignKey(
        KeyringVersion,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="The one that named the signer an owner.",
    )
    signature = models.JSONField(help_text="As it came, with the signer's fingerprint.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "naming of approvers"
        verbose_name_plural = "namings of approvers"
        ordering = ["-pk"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.tenant_id} names set {self.set_id}"


class TermsVersion(AppendOnlyModel):
    """On which terms a tenant's owner lets anybody in: closed, by approvers, or by approvers and an owner."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="break_glass_terms")
    version = models.PositiveIntegerField()
    document = models.JSONField(help_text="In canonical form.")
    signature = models.JSONField(help_text="As it came, with the signer's fingerprint.")
    keyring = models.ForeignKey(
        KeyringVersion,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="The one that named the signer an owner.",
    )
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "break-glass terms"
        verbose_name_plural = "break-glass terms"
        ordering = ["-version"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version"], name="one_terms_per_tenant_and_version"),
            models.CheckConstraint(condition=Q(version__gte=1), name="terms_versions_begin_at_one"),
        ]

    def __str__(self) -> str:
        return f"terms {self.version} of {self.tenant_id}"


class GuestApprovers(models.Model):
    """What a guest says of approvers and terms, and what it has been told."""

    runtime = models.OneToOneField(
        Runtime, on_delete=models.CASCADE, primary_key=True, related_name="approvers"
    )
    stated = models.JSONField(default=dict, help_text="What the guest last said of its set and terms.")
    told_set = models.PositiveIntegerField(
        default=0, help_text="The newest version that the guest has answered to, by taking or refusing it."
    )
    told_terms = models.PositiveIntegerField(default=0, help_text="The same for terms.")
    told_naming = models.PositiveBigIntegerField(
        default=0, help_text="The newest naming by an owner that the guest has answered to."
    )
    refused = models.CharField(
        max_length=40, blank=True, help_text="Why the guest does not hold what it was told; empty: it does."
    )
    at = models.DateTimeField(null=True, help_text="When it last said so.")

    class Meta:
        verbose_name = "what a guest believes"
        verbose_name_plural = "what guests believe"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"approvers of {self.runtime_id}"
