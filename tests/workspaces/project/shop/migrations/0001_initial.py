from django.db import migrations, models


def stock(apps, schema_editor):
    apps.get_model("shop", "Ware").objects.create(name="a lamp")


class Migration(migrations.Migration):
    initial = True
    operations = [  # noqa: RUF012
        migrations.CreateModel(
            "Ware", [("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=100))]
        ),
        migrations.RunPython(stock),
    ]
