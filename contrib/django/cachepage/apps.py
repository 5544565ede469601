"""The application: INSTALLED_APPS += ["cachepage"]."""

from django.apps import AppConfig
from django.core.checks import register

from cachepage import changes, client


class CachepageConfig(AppConfig):
    name = "cachepage"

    def ready(self):
        changes.watch()
        register(client.check_settings)
