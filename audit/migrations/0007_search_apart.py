import django.db.models
from django.db import migrations, models

from audit import index


def make(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        for statement in index.CREATE[schema_editor.connection.vendor]:
            cursor.execute(statement)


def drop(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(index.DROP)


class Migration(migrations.Migration):
    """Search reads a table of its own, filled by the sequencer; writers of entries keep up one index, not four."""

    dependencies = [("audit", "0006_witnesses")]

    operations = [
        migrations.CreateModel(
            name="SearchIndex",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("leaves", models.BigIntegerField(default=0, help_text="Leaves of the tree whose words are indexed.")),
            ],
            options={
                "default_permissions": ("view",),
                "constraints": [models.CheckConstraint(condition=django.db.models.Q(("id", 1)), name="one_search_index")],
            },
        ),
        migrations.RunPython(make, drop, elidable=False),
        migrations.RemoveIndex(model_name="entry", name="entry_by_target"),
        migrations.RemoveIndex(model_name="entry", name="entry_by_action"),
        migrations.RemoveIndex(model_name="entry", name="entry_by_time"),
    ]
