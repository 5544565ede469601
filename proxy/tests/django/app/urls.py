"""Every page in every cache: /CACHE/PAGE/. Asked directly, a page has its cache_page; behind the proxy it has none, as
on a site that leaves the caching to the proxy. Under /kept/ it has it in either case.
"""

from functools import wraps

from django.conf import settings
from django.core.cache import caches
from django.http import HttpResponse, JsonResponse
from django.urls import path, re_path
from django.utils.cache import _generate_cache_header_key, get_cache_key, learn_cache_key
from django.views.decorators.cache import cache_page

from pages import PAGES, call

if "default" in getattr(settings, "DATABASES", {}):
    from homes.views import HomeList

    PAGES["homes"] = HomeList.as_view()

PREFIX = "deco.\u00e9"


def shared(view, **options):
    cached = cache_page(60, **options)(view)

    @wraps(view)
    def choose(request, *args, **kwargs):
        is_behind = "X-Forwarded-For" in request.headers
        return (view if is_behind else cached)(request, *args, **kwargs)

    return choose


def control(request, cache, command):
    """What a site does to its cache."""
    if command == "clear":
        caches[cache].clear()
    elif command == "delete":
        caches[cache].delete(request.GET["key"])
    return HttpResponse("done")


def keys(request, rest=""):
    """The keys that Django makes of this very request, and of a page with the Vary that it asks for."""
    response = HttpResponse()
    if "X-Vary" in request.headers:
        response.headers["Vary"] = request.headers["X-Vary"]
    # A cache of another kind: nothing is stored in Redis, and the rules are the same.
    prefix = request.headers.get("X-Prefix", "")
    cache = caches["default"]
    cache.clear()
    page_key = learn_cache_key(request, response, 60, prefix, cache)
    header_key = _generate_cache_header_key(prefix, request)
    made = [caches["plain"].make_key(key) for key in (header_key, page_key)]
    assert get_cache_key(request, prefix, "GET", cache) == page_key
    response.content = "\n".join(made)
    return response


urlpatterns = [
    path("up/", lambda request: HttpResponse("up")),
    path("control/<cache>/<command>/", control),
    re_path("^keys/(?P<rest>.*)$", keys),
    *(
        path(f"{cache}/{name}/", shared(view, cache=cache))
        for cache in settings.CACHES
        for name, view in PAGES.items()
    ),
    # Any path at all, for pages that another origin made.
    *(
        re_path(f"^{cache}/any/", cache_page(60, cache=cache)(lambda request: HttpResponse(call("Django's own"))))
        for cache in settings.CACHES
    ),
    *(path(f"prefix/{name}/", shared(view, cache="plain", key_prefix=PREFIX)) for name, view in PAGES.items()),
    *(path(f"kept/{name}/", cache_page(60, cache="plain")(view)) for name, view in PAGES.items()),
]
