"""Makes and fills the database: `python seed.py PORT KEPT`. PORT is that of the proxy, which clients ask. KEPT is a file in
which the database is kept as it is after the migrations, which take 20 seconds. Prints the keys of the pages."""

import os
import shutil
import sys
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cms_settings")
django.setup()

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from shop.models import Article, Home, Imprint
from wagtail.models import Page, Site

port, kept = sys.argv[1:]
database = settings.DATABASES["default"]["NAME"]
if Path(kept).exists():
    shutil.copy(kept, database)
call_command("migrate", verbosity=0)
# Another run may read it now, so it is replaced as a whole.
shutil.copy(database, f"{kept}.{port}")
os.replace(f"{kept}.{port}", kept)

User.objects.create_superuser("root", password="p")
Site.objects.update(hostname="127.0.0.1", port=port)
Home.objects.bulk_create([Home(title="flat", price=100), Home(title="villa", price=900)])
start = Page.objects.get(depth=2)
for page in (
    Article(title="Article", slug="article", text="first text"),
    Imprint(title="Imprint", slug="imprint", text="first text"),
):
    start.add_child(instance=page)
    page.save_revision().publish()
print(*(page.pk for page in start.get_children()))
