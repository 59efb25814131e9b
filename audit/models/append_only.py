"""What all rows of the record have in common: they are inserted, and never touched again."""

from typing import Any, NoReturn, TypeVar

from django.db import models

M = TypeVar("M", bound=models.Model)


class AppendOnlyError(Exception):
    """Somebody tried to change or remove a row of the record."""


class AppendOnlyQuerySet(models.QuerySet[M]):
    """Reads and inserts. The database's triggers refuse what slips past these methods."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError(f"Rows of {self.model._meta.verbose_name_plural} cannot be changed.")

    def delete(self) -> NoReturn:
        raise AppendOnlyError(f"Rows of {self.model._meta.verbose_name_plural} cannot be deleted.")


class AppendOnlyModel(models.Model):
    """A row that is inserted and never touched again."""

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError(f"A row of {self._meta.verbose_name_plural} cannot be changed.")
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError(f"A row of {self._meta.verbose_name_plural} cannot be deleted.")


class Acknowledgement(AppendOnlyModel):
    """A person has looked into an alarm, and says what they found. One for each alarm."""

    by = models.CharField(max_length=64, help_text="The actor's id.")
    why = models.CharField(max_length=64, help_text="The commitment to the reason (PersonalDatum), in hex.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True
        default_permissions = ("view",)
