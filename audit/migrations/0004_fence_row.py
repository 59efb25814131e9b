from django.db import migrations


def make(apps, schema_editor):
    """The one row; afterwards the sequencer needs no right to insert here."""
    apps.get_model("audit", "SequencerFence").objects.get_or_create(pk=1)


class Migration(migrations.Migration):

    dependencies = [
        ("audit", "0003_tree"),
    ]

    operations = [migrations.RunPython(make, migrations.RunPython.noop, elidable=False)]
