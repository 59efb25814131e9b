"""The Merkle tree over the entries. Only the sequencer (:mod:`audit.sequencer`) writes here."""

from django.db import models
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from audit.models.append_only import AppendOnlyModel
from audit.models.entry import Entry

HASH_BYTES = 32
TILE_BYTES = 256 * HASH_BYTES


class Leaf(AppendOnlyModel):
    """An entry's place in the tree: indexes are contiguous from 0, in the order of sequencing."""

    index = models.BigIntegerField(primary_key=True)
    # No constraint in the database: it would lock, and so rewrite, each entry's row once more, and it would
    # keep the bodies of archived entries. That each leaf has its entry is the verifier's to say.
    entry = models.OneToOneField(Entry, models.PROTECT, related_name="leaf", db_constraint=False)
    hash = models.BinaryField(help_text="RFC 9162: SHA-256 of 0x00 and the entry's event, as UTF-8.")

    class Meta:
        verbose_name_plural = "leaves"
        ordering = ["index"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(name="leaf_index_from_zero", condition=models.Q(index__gte=0)),
            models.CheckConstraint(name="leaf_hash_size", condition=Exact(Length("hash"), HASH_BYTES)),
        ]

    def __str__(self) -> str:
        return f"leaf {self.index}"


class Tile(AppendOnlyModel):
    """A full hash tile of C2SP ``tlog-tiles``: 256 hashes. Those that are not full follow from the rest."""

    level = models.PositiveSmallIntegerField()
    index = models.BigIntegerField()
    data = models.BinaryField(help_text="256 hashes of 32 bytes, one after the other.")
    root = models.BinaryField(help_text="The root over them: this tile's hash in the tile above.")

    class Meta:
        ordering = ["level", "index"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(name="one_tile_of_each_place", fields=["level", "index"]),
            models.CheckConstraint(name="tile_index_from_zero", condition=models.Q(index__gte=0)),
            models.CheckConstraint(name="tile_is_full", condition=Exact(Length("data"), TILE_BYTES)),
            models.CheckConstraint(name="tile_root_size", condition=Exact(Length("root"), HASH_BYTES)),
        ]

    def __str__(self) -> str:
        return f"tile {self.level}/{self.index}"


class Checkpoint(AppendOnlyModel):
    """A head of the tree that the log has signed."""

    size = models.BigIntegerField(unique=True, help_text="Leaves in the tree.")
    root = models.BinaryField()
    note = models.TextField(help_text="The C2SP signed note, as the log's own key signed it.")
    at = models.DateTimeField()

    class Meta:
        ordering = ["-size"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(name="checkpoint_of_something", condition=models.Q(size__gt=0)),
            models.CheckConstraint(name="checkpoint_root_size", condition=Exact(Length("root"), HASH_BYTES)),
        ]

    def __str__(self) -> str:
        return f"checkpoint {self.size}"


class SequencerFence(models.Model):
    """Whose turn it is to write the tree, and how the sequencer is. One row, with the key 1."""

    ROW = 1

    fence = models.BigIntegerField(default=0, help_text="Grows with each sequencer that begins.")
    at = models.DateTimeField(null=True, help_text="When the holder last said that it is there.")
    low = models.BigIntegerField(default=0, help_text="All entries up to this id have their leaf.")
    trouble = models.CharField(max_length=32, blank=True, help_text="Why it refuses to sign, as a code.")
    trouble_words = models.CharField(max_length=500, blank=True)
    trouble_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        constraints = [models.CheckConstraint(name="one_sequencer_fence", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"fence {self.fence}"
