from django.db import models


class SearchIndex(models.Model):
    """How far the search index has come. One row, with the key 1, made when it is first written."""

    ROW = 1

    leaves = models.BigIntegerField(default=0, help_text="Leaves of the tree whose words are indexed.")

    class Meta:
        default_permissions = ("view",)
        constraints = [models.CheckConstraint(name="one_search_index", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"{self.leaves} leaves indexed"
