"""Wagtail: a backend for `wagtail.contrib.frontend_cache`, and pages that name themselves in their answers."""

from wagtail.contrib.frontend_cache.backends import BaseBackend

from cachepage.client import DEFAULTS, send
from cachepage.tags import add_tags


class CachepageBackend(BaseBackend):
    """Purges all URLs of a batch in one request. Takes the settings of CACHEPAGE, or its own of the same names."""

    def __init__(self, params):
        super().__init__(params)
        self.settings = {name: params[name] for name in DEFAULTS if name in params}

    def purge(self, url):
        self.purge_batch([url])

    def purge_batch(self, urls):
        send("uri", urls, to=self.settings)


class TaggedPage:
    """A page whose answers have its tags: `class HomePage(TaggedPage, Page)`."""

    def serve(self, request, *args, **kwargs):
        return add_tags(super().serve(request, *args, **kwargs), self)
