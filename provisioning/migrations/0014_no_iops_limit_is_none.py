from django.db import migrations


def no_limit(apps, schema_editor):
    """As the plans had it: None says what libvirt made of 0."""
    apps.get_model("provisioning", "Runtime").objects.filter(iops=0).update(iops=None)


class Migration(migrations.Migration):

    dependencies = [
        ('provisioning', '0013_drift'),
    ]

    operations = [
        migrations.RunPython(no_limit, migrations.RunPython.noop),
    ]
