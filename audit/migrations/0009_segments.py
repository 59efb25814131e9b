import django.db.models
from django.db import migrations, models

from audit import triggers


def install(apps, schema_editor):
    triggers.install(schema_editor.connection)


class Migration(migrations.Migration):
    """Archived stretches of the log; only within one may the database empty an entry's body."""

    dependencies = [("audit", "0008_insert_only")]

    operations = [
        migrations.CreateModel(
            name="Segment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("first", models.BigIntegerField(help_text="The first leaf's index.", unique=True)),
                ("end", models.BigIntegerField(help_text="The index after the last leaf's.", unique=True)),
                ("checkpoint", models.BigIntegerField(help_text="Size of the checkpoint that the archive was proved in.")),
                ("folder", models.CharField(help_text="The archive's own name, without the path to it.", max_length=200)),
                ("digest", models.CharField(help_text="SHA-256 of the archive's list of files, in hex.", max_length=64)),
                ("at", models.DateTimeField()),
            ],
            options={
                "ordering": ["first"],
                "default_permissions": ("view",),
                "constraints": [
                    models.CheckConstraint(
                        condition=django.db.models.Q(("end__gt", django.db.models.F("first")), ("first__gte", 0)),
                        name="segment_holds_something",
                    ),
                    models.CheckConstraint(
                        condition=django.db.models.Q(("checkpoint__gte", django.db.models.F("end"))),
                        name="segment_in_its_tree",
                    ),
                ],
            },
        ),
        migrations.RunPython(install, migrations.RunPython.noop, elidable=False),
    ]
