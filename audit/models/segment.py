from django.db import models
from django.db.models import F, Q

from audit.models.append_only import AppendOnlyModel


class Segment(AppendOnlyModel):
    """A stretch of the log whose events stand in an archive. Hashes and tiles stay here, so proofs go on."""

    first = models.BigIntegerField(unique=True, help_text="The first leaf's index.")
    end = models.BigIntegerField(unique=True, help_text="The index after the last leaf's.")
    checkpoint = models.BigIntegerField(help_text="Size of the checkpoint that the archive was proved in.")
    folder = models.CharField(max_length=200, help_text="The archive's own name, without the path to it.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the archive's list of files, in hex.")
    at = models.DateTimeField()

    class Meta:
        ordering = ["first"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                name="segment_holds_something", condition=Q(first__gte=0, end__gt=F("first"))
            ),
            models.CheckConstraint(name="segment_in_its_tree", condition=Q(checkpoint__gte=F("end"))),
        ]

    def __str__(self) -> str:
        return f"entries {self.first} to {self.end - 1}"

    @classmethod
    def archived(cls) -> int:
        """How many leaves, from 0 on, have been archived."""
        newest = cls.objects.order_by("-end").values_list("end", flat=True).first()
        return newest or 0
