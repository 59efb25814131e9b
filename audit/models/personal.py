"""Personal data that leaves commit to. It stands outside the tree, so that it can be erased."""

from typing import Any, NoReturn

from django.db import models
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from audit.models.append_only import AppendOnlyError
from protocol.canonical import CanonicalError
from protocol.personal import SALT_BYTES, commitment
from protocol.receipts import Opening

MAX_VALUE = 512
"""Characters: less than what an index row of PostgreSQL holds, whatever the script."""

DOES_NOT_OPEN = "Does not open: another value stands where the recorded one was."


class PersonalQuerySet(models.QuerySet["PersonalDatum"]):
    """Rows are inserted and erased, never changed: a changed one opens nothing."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError("Personal data of the record cannot be changed. Erase it.")


class PersonalDatum(models.Model):
    """One value about one subject, with the salt that opens the commitment in the leaves."""

    subject = models.CharField(max_length=80, help_text="Whom it is about: user:7, tenant:UUID, anonymous.")
    kind = models.CharField(max_length=16)
    value = models.CharField(max_length=MAX_VALUE)
    salt = models.BinaryField()
    commitment = models.CharField(max_length=64, unique=True, help_text="As the leaves hold it, in hex.")
    made_at = models.DateTimeField(help_text="When it was first recorded.")

    objects = PersonalQuerySet.as_manager()

    class Meta:
        verbose_name = "personal datum"
        verbose_name_plural = "personal data"
        ordering = ["-pk"]
        default_permissions = ("view", "delete")
        constraints = [
            models.CheckConstraint(name="salt_size", condition=Exact(Length("salt"), SALT_BYTES)),
        ]
        indexes = [
            # Not unique: two transactions that meet a value first would wait for each other's end, and
            # could lock each other out. Both insert; two commitments to one value harm nobody.
            models.Index(fields=["subject", "kind", "value"], name="personal_by_value"),
            models.Index(fields=["kind", "made_at"], name="personal_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.subject}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError("Personal data of the record cannot be changed. Erase it.")
        super().save(*args, **kwargs)

    @property
    def opens(self) -> bool:
        """Whether it is what leaves commit to: who may write the table can put in another value."""
        try:
            return commitment(bytes(self.salt), self.kind, self.value).hex() == self.commitment
        except (ValueError, CanonicalError):
            return False

    @property
    def shown(self) -> str:
        """The value for people's eyes: only what opens its commitment is shown as what was recorded."""
        return self.value if self.opens else DOES_NOT_OPEN

    @property
    def opening(self) -> Opening:
        """What a receipt holds of it."""
        return Opening(self.commitment, bytes(self.salt), self.kind, self.value)
