import django.db.models.deletion
from django.db import migrations, models

from audit import triggers


INSERT_ONLY = ("audit_cosignature", "audit_witnessrefusal", "audit_refusalacknowledgement")


def install(apps, schema_editor):
    triggers.install(schema_editor.connection, *INSERT_ONLY)


def remove(apps, schema_editor):
    triggers.remove(schema_editor.connection, *INSERT_ONLY)


class Migration(migrations.Migration):
    """Witnesses, their cosignatures and refusals. What they said is written once."""

    dependencies = [
        ('audit', '0005_personal'),
    ]

    operations = [
        migrations.CreateModel(
            name='Witness',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='As it signs.', max_length=255)),
                ('vkey', models.CharField(help_text='Name+key id+base64, as the witness tells it.', max_length=400, unique=True, verbose_name='verifier key')),
                ('url', models.CharField(blank=True, help_text='Where an outside witness is asked: add-checkpoint is put behind it.', max_length=200, verbose_name='URL')),
                ('target', models.CharField(blank=True, help_text='Id of the runtime whose guest it is.', max_length=64)),
                ('tenant_id', models.UUIDField(blank=True, null=True)),
                ('added_at', models.DateTimeField(auto_now_add=True)),
                ('retired_at', models.DateTimeField(blank=True, null=True)),
                ('asked_at', models.DateTimeField(blank=True, help_text='When a worker last took it to ask.', null=True)),
                ('problem', models.CharField(blank=True, help_text='Why the last question had no answer.', max_length=200)),
            ],
            options={
                'verbose_name_plural': 'witnesses',
                'ordering': ['name', 'pk'],
                'default_permissions': ('view', 'add', 'change'),
                'constraints': [models.UniqueConstraint(condition=models.Q(('retired_at', None)), fields=('name',), name='one_active_witness_of_a_name'), models.CheckConstraint(condition=models.Q(('url', ''), ('target', ''), _connector='XOR'), name='witness_is_a_guest_or_outside')],
            },
        ),
        migrations.CreateModel(
            name='WitnessRefusal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reason', models.CharField(choices=[('smaller', 'it holds more entries than the log has: the log was set back'), ('forked', 'it holds other entries in the same number: the log has forked'), ('proof', 'what it holds is not the beginning of the log: the log has forked'), ('stale', 'it says each time that it holds something else'), ('signature', "the log's signature does not fit the key that it knows"), ('origin', 'it knows another log, or none'), ('malformed', 'it does not understand what it is sent'), ('other_key', 'it signs with another key than the registered one'), ('bad_cosignature', 'its signature does not fit')], max_length=20)),
                ('size', models.BigIntegerField(help_text='What the witness says that it holds.')),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('checkpoint', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='refusals', to='audit.checkpoint')),
                ('witness', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='refusals', to='audit.witness')),
            ],
            options={
                'ordering': ['-pk'],
                'default_permissions': ('view', 'change'),
            },
        ),
        migrations.CreateModel(
            name='RefusalAcknowledgement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('by', models.CharField(help_text="The actor's id.", max_length=64)),
                ('why', models.CharField(help_text='The commitment to the reason (PersonalDatum), in hex.', max_length=64)),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('refusal', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='acknowledgement', to='audit.witnessrefusal')),
            ],
            options={
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='Cosignature',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('line', models.TextField(help_text='The C2SP signature line, with its end.')),
                ('signed_at', models.DateTimeField(help_text='As the witness dates it.')),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('checkpoint', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='cosignatures', to='audit.checkpoint')),
                ('witness', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='cosignatures', to='audit.witness')),
            ],
            options={
                'ordering': ['-checkpoint__size', 'witness__name'],
                'default_permissions': ('view',),
                'constraints': [models.UniqueConstraint(fields=('checkpoint', 'witness'), name='one_cosignature_each')],
            },
        ),
        migrations.AddIndex(
            model_name='witnessrefusal',
            index=models.Index(fields=['witness', 'reason'], name='refusal_by_reason'),
        ),
        migrations.RunPython(install, remove, elidable=False),
    ]
