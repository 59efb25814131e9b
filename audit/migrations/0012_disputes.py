import django.db.models.deletion
import django.db.models.functions.text
import django.db.models.lookups
from django.db import migrations, models

from audit import triggers

INSERT_ONLY = ("audit_dispute", "audit_disputeacknowledgement")


def install(apps, schema_editor):
    triggers.install(schema_editor.connection, *INSERT_ONLY)


def remove(apps, schema_editor):
    triggers.remove(schema_editor.connection, *INSERT_ONLY)


class Migration(migrations.Migration):
    """Signed histories that the log does not continue. What was shown is written once."""

    dependencies = [
        ('audit', '0011_steady_witnesses'),
    ]

    operations = [
        migrations.CreateModel(
            name='Dispute',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tenant_id', models.UUIDField(help_text='Whose member showed it first.')),
                ('size', models.BigIntegerField(help_text='Entries under the checkpoint that was shown.')),
                ('root', models.BinaryField()),
                ('note', models.TextField(help_text="The checkpoint with the log's signature.")),
                ('at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['-pk'],
                'default_permissions': ('view', 'change'),
                'constraints': [models.UniqueConstraint(fields=('root', 'size'), name='one_dispute_of_a_history'), models.CheckConstraint(condition=django.db.models.lookups.Exact(django.db.models.functions.text.Length('root'), 32), name='dispute_root_size')],
            },
        ),
        migrations.CreateModel(
            name='DisputeAcknowledgement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('by', models.CharField(help_text="The actor's id.", max_length=64)),
                ('why', models.CharField(help_text='The commitment to the reason (PersonalDatum), in hex.', max_length=64)),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('dispute', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='acknowledgement', to='audit.dispute')),
            ],
            options={
                'default_permissions': ('view',),
            },
        ),
        migrations.RunPython(install, remove, elidable=False),
    ]
