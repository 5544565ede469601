"""The site of the live test: what startproject writes, and a cache in a Redis database for each way to store values.

What a test wants otherwise comes as JSON in SITE.
"""

import json
import os

SECRET_KEY = "known to everybody"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
WSGI_APPLICATION = "wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "homes",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    },
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

REST_FRAMEWORK = {
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 20,
}


def built_in(database, **more):
    return {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": f"{os.environ['REDIS']}/{database}",
        **more,
    }


def django_redis(database, compressor=None, **more):
    cache = built_in(database, **more) | {"BACKEND": "django_redis.cache.RedisCache", "OPTIONS": {}}
    if compressor:
        module = compressor.lower()
        cache["OPTIONS"]["COMPRESSOR"] = f"django_redis.compressors.{module}.{compressor}Compressor"
    return cache


CACHES = {
    # For all that is not a page.
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "plain": built_in(1),
    "redis": django_redis(2),
    "zlib": django_redis(3, "Zlib"),
    "gzip": django_redis(4, "Gzip"),
    "zstd": django_redis(5, "ZStd"),
    "lz4": django_redis(6, "Lz4"),
    "lzma": django_redis(7, "Lzma"),
    "named": built_in(8, KEY_PREFIX="caf\u00e9.de", VERSION=7),
    "named-redis": django_redis(9, KEY_PREFIX="shop", VERSION=12),
}

if "DATABASE_PORT" in os.environ:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "homes",
            "USER": "cachepage",
            "HOST": "127.0.0.1",
            "PORT": os.environ["DATABASE_PORT"],
        }
    }

for name, value in json.loads(os.environ.get("SITE", "{}")).items():
    globals()[name] = value
if globals().get("LOCALE"):
    MIDDLEWARE.insert(2, "django.middleware.locale.LocaleMiddleware")
if globals().get("CONDITIONAL"):
    MIDDLEWARE.insert(0, "conditional.Direct")
