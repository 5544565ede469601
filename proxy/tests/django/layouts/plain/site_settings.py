"""Everything in one folder; Redis by the built-in backend, with its own prefix; no frame options."""

SECRET_KEY = "known to everybody"
ROOT_URLCONF = "site_urls"
USE_TZ = False
LANGUAGE_CODE = "de"
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "site_middleware.Stamp"]
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "pages": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": ["redis://127.0.0.1:6379/3"],
        "KEY_PREFIX": "shop",
        "VERSION": 2,
    },
}
