import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('registry', '0002_append_only'),
    ]

    operations = [
        migrations.CreateModel(
            name='Contact',
            fields=[
                ('device', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='contact', serialize=False, to='registry.device')),
                ('heard_at_ms', models.BigIntegerField()),
                ('synced_at_ms', models.BigIntegerField(default=0)),
                ('epoch', models.BigIntegerField()),
                ('ctr', models.PositiveIntegerField()),
                ('link', models.CharField(max_length=4)),
                ('gateway', models.CharField(blank=True, max_length=16)),
                ('rssi', models.FloatField(null=True)),
                ('snr', models.FloatField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Refusal',
            fields=[
                ('reason', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('count', models.BigIntegerField()),
                ('last_at_ms', models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name='Frame',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('epoch', models.BigIntegerField()),
                ('ctr', models.PositiveIntegerField()),
                ('received_at_ms', models.BigIntegerField()),
                ('message_type', models.PositiveSmallIntegerField(null=True)),
                ('fault', models.CharField(blank=True, max_length=24)),
                ('t_first', models.BigIntegerField(null=True)),
                ('t_last', models.BigIntegerField(null=True)),
                ('payload_wrapped', models.BinaryField(max_length=512)),
                ('link', models.CharField(choices=[('lora', 'Lora'), ('mqtt', 'Mqtt')], max_length=4)),
                ('gateway', models.CharField(blank=True, max_length=16)),
                ('rssi', models.FloatField(null=True)),
                ('snr', models.FloatField(null=True)),
                ('device', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='frames', to='registry.device')),
            ],
            options={
                'indexes': [models.Index(fields=['device', 't_first'], name='frame_by_time')],
                'constraints': [models.UniqueConstraint(fields=('device', 'epoch', 'ctr'), name='frame_once'), models.CheckConstraint(condition=models.Q(('ctr__gte', 0), ('ctr__lt', 65536), ('epoch__gte', 0), ('epoch__lt', 4294967296)), name='frame_number_in_range'), models.CheckConstraint(condition=models.Q(('link__in', ['lora', 'mqtt'])), name='frame_link_known')],
            },
        ),
    ]
