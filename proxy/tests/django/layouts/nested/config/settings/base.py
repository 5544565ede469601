"""What all environments have in common: classes and view sets, django-redis, several languages."""

SECRET_KEY = "known to everybody"
ROOT_URLCONF = "config.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"]
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
LANGUAGES = [("de", "Deutsch"), ("en", "English")]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
X_FRAME_OPTIONS = "SAMEORIGIN"
