"""The article's site in real Django, for `bench experiment` to measure beside the proxy.

    pip install "Django>=5.2" djangorestframework "psycopg[binary]" redis
    DATABASE_URL=postgres://... REDIS_URL=redis://... python django_site.py --listen 127.0.0.1:8002

It serves the tables that `seed` fills, under the article's paths, with cache_page on the cached one. Django's own server, one
request after the other on one database connection: what is measured is the application, not a choice of servers.
"""

import os
import sys
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings

database = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="for measuring only",
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["rest_framework"],
    # What `startproject` writes, but for what needs tables of its own.
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database.path.lstrip("/"),
            "USER": unquote(database.username or ""),
            "PASSWORD": unquote(database.password or ""),
            "HOST": database.hostname,
            "PORT": str(database.port or 5432),
            "CONN_MAX_AGE": None,
        }
    },
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": os.environ["REDIS_URL"],
            # Its pages are not the proxy's.
            "KEY_PREFIX": "django",
        }
    },
    REST_FRAMEWORK={
        "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
        "PAGE_SIZE": 20,
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
    },
    USE_TZ=True,
    LOGGING_CONFIG=None,
)
django.setup()

from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.cache import cache_page  # noqa: E402
from rest_framework import generics, serializers  # noqa: E402


class Table(models.Model):
    class Meta:
        abstract = True
        app_label = "housing"


class Office(Table):
    name = models.CharField(max_length=200)
    city = models.CharField(max_length=100)
    phone = models.CharField(max_length=20)


class Agent(Table):
    name = models.CharField(max_length=200)
    email = models.EmailField()
    phone = models.CharField(max_length=20)
    office = models.ForeignKey(Office, models.CASCADE)


class Location(Table):
    city = models.CharField(max_length=100)
    state = models.CharField(max_length=50)
    zip_code = models.CharField(max_length=10)


class Property(Table):
    title = models.CharField(max_length=200)
    description = models.TextField()
    property_type = models.CharField(max_length=20)
    price = models.DecimalField(max_digits=12, decimal_places=2)
    bedrooms = models.IntegerField()
    bathrooms = models.DecimalField(max_digits=3, decimal_places=1)
    location = models.ForeignKey(Location, models.CASCADE)
    agent = models.ForeignKey(Agent, models.CASCADE)
    status = models.CharField(max_length=20)
    view_count = models.IntegerField()
    created_at = models.DateTimeField()


def serializer(of, columns, **nested):
    """A serializer of some columns of a table, and of the rows it refers to."""
    meta = type("Meta", (), {"model": of, "fields": columns.split()})
    return type(f"{of.__name__}Serializer", (serializers.ModelSerializer,), {"Meta": meta, **nested})


OfficeSerializer = serializer(Office, "id name city phone")
AgentSerializer = serializer(Agent, "id name email phone office", office=OfficeSerializer(read_only=True))
LocationSerializer = serializer(Location, "id city state zip_code")
PropertySerializer = serializer(
    Property,
    "id title description property_type price bedrooms bathrooms location agent status view_count created_at",
    location=LocationSerializer(read_only=True),
    agent=AgentSerializer(read_only=True),
)


class Naive(generics.ListAPIView):
    """A query for each row's location, agent and office."""

    queryset = Property.objects.order_by("-created_at")
    serializer_class = PropertySerializer


class Optimized(Naive):
    """All in one query."""

    queryset = Naive.queryset.select_related("location", "agent__office")


urlpatterns = [
    path("api/properties/live/naive/", Naive.as_view()),
    path("api/properties/live/optimized/", Optimized.as_view()),
    path("api/properties/cached/", cache_page(60)(Naive.as_view())),
]


class Quiet(WSGIRequestHandler):
    """Without a line for each request."""

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    host, port = sys.argv[sys.argv.index("--listen") + 1].rsplit(":", 1)
    server = WSGIServer((host, int(port)), Quiet)
    server.set_app(get_wsgi_application())
    print(f"django listening on http://{host}:{server.server_port}", flush=True)
    server.serve_forever()
