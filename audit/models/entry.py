from functools import cache
from typing import Any

from django.db import connections, models

from audit.models.append_only import AppendOnlyModel, AppendOnlyQuerySet


class EntryQuerySet(AppendOnlyQuerySet["Entry"]):
    """Reads, and the one insertion."""

    def create(self, **given: Any) -> "Entry":
        """Insert a row by a statement that is made once.

        Every audited change pays for this. Django composes the same statement anew each time, which takes
        several times as long as the database needs for it.
        """
        connection = connections[self.db]
        made = Entry(**given)
        fields, statement = _insertion()
        values = [
            field.get_db_prep_save(getattr(made, field.attname), connection=connection) for field in fields
        ]
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            made.pk = cursor.fetchone()[0]
        made._state.adding, made._state.db = False, self.db
        return made


@cache
def _insertion() -> tuple[list["models.Field[Any, Any]"], str]:
    """The fields of a new row but its key, and the statement, for either database."""
    fields = [field for field in Entry._meta.concrete_fields if not field.primary_key]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    places = ", ".join(["%s"] * len(fields))
    table = Entry._meta.db_table
    return fields, f'INSERT INTO "{table}" ({columns}) VALUES ({places}) RETURNING "id"'  # noqa: S608 - our own names


class Entry(AppendOnlyModel):
    """One thing that happened. Written by :func:`audit.services.record` and never touched again."""

    at = models.DateTimeField()
    action = models.CharField(max_length=80)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64)
    tenant_id = models.UUIDField(null=True)
    target_type = models.CharField(max_length=40, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    event = models.TextField(help_text="The canonical JSON of the whole entry; the columns only index it.")

    objects = EntryQuerySet.as_manager()  # type: ignore[misc]  # the base has a plainer one

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        ordering = ["-pk"]
        default_permissions = ("add", "view")
        # Each index costs every writer. What staff search by stands apart (:mod:`audit.index`), filled later.
        indexes = [models.Index(fields=["tenant_id", "-id"], name="entry_by_tenant")]

    def __str__(self) -> str:
        return f"{self.pk} {self.action}"
