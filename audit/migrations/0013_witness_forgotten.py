from django.db import migrations, models


class Migration(migrations.Migration):
    """A refusal may be that the witness holds less than it has signed for."""

    dependencies = [
        ('audit', '0012_disputes'),
    ]

    operations = [
        migrations.AlterField(
            model_name='witnessrefusal',
            name='reason',
            field=models.CharField(choices=[('smaller', 'it holds more entries than the log has: the log was set back'), ('forked', 'it holds other entries in the same number: the log has forked'), ('proof', 'what it holds is not the beginning of the log: the log has forked'), ('stale', 'it says each time that it holds something else'), ('signature', "the log's signature does not fit the key that it knows"), ('origin', 'it knows another log, or none'), ('malformed', 'it does not understand what it is sent'), ('other_key', 'it signs with another key than the registered one'), ('forgotten', 'it holds fewer entries than it has signed for: the witness was set back'), ('bad_cosignature', 'its signature does not fit')], max_length=20),
        ),
    ]
