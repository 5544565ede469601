# Runs in a Django project, by `manage.py shell -c`, and prints what the proxy has to know of it: one line of JSON.
import functools
import inspect
import json
import re
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.cache import caches
from django.middleware.cache import CacheMiddleware
from django.urls import get_resolver
from django.urls.resolvers import LocalePrefixPattern, RoutePattern, URLResolver
from django.utils.module_loading import import_string


def inside(view, seen):
    """The functions and objects that a decorated view is made of."""
    if id(view) in seen or isinstance(view, (str, bytes, int, type(None), type(json))):
        return
    seen[id(view)] = view
    yield view
    if isinstance(view, (list, tuple, set)):
        parts = list(view)
    elif isinstance(view, functools.partial):
        parts = [view.func, *view.args]
    elif inspect.ismethod(view):
        parts = [view.__func__]
    else:
        parts = [getattr(view, "__wrapped__", None)]
    cells = {}
    for name, cell in zip(getattr(getattr(view, "__code__", None), "co_freevars", ()), getattr(view, "__closure__", None) or ()):
        try:
            cells[name] = cell.cell_contents
        except ValueError:
            pass
    if cells.get("middleware_class") is CacheMiddleware and isinstance(cells.get("kwargs"), dict):
        # What `cache_page(...)` gives before it has its view, as in `method_decorator`.
        yield cells["kwargs"]
    for part in [*parts, *cells.values()]:
        if not inspect.isclass(part) and not inspect.ismodule(part):
            yield from inside(part, seen)


def methods(view):
    """The functions that answer a GET, from the outside to the inside."""
    cls = getattr(view, "view_class", None) or getattr(view, "cls", None)
    actions = getattr(view, "actions", None) or {}
    names = ["dispatch", actions.get("get", "get")] if cls else []
    return [view, *(getattr(cls, name) for name in names if hasattr(cls, name))]


def cached(view):
    """The options of the view's cache_page, if it has one."""
    for method in methods(view):
        for part in inside(method, {}):
            if isinstance(part, CacheMiddleware):
                return {"timeout": part.page_timeout, "key_prefix": part.key_prefix or "", "cache": part.cache_alias}
            if isinstance(part, dict) and "page_timeout" in part:
                return {
                    "timeout": part["page_timeout"],
                    "key_prefix": part.get("key_prefix") or "",
                    "cache": part.get("cache_alias") or "default",
                }
    return None


def is_installed(module):
    """Whether a module comes from a package, as the views of an admin do, and not from the project."""
    package = sys.modules.get(module.split(".")[0])
    places = [getattr(package, "__file__", None) or "", *getattr(package, "__path__", ())]
    return any({"site-packages", "dist-packages"} & set(Path(place).parts) for place in places)


def looks_cacheable(view):
    """Whether the view answers a GET, to everybody, as far as its decorators and classes say."""
    cls = getattr(view, "view_class", None) or getattr(view, "cls", None)
    module = getattr(cls or view, "__module__", "") or ""
    is_public = module.startswith("django.views.generic") or name_of(view) == "wagtail.views.serve"
    if is_installed(module) and not is_public:
        return False
    if cls:
        names = {base.__name__ for base in cls.__mro__}
        rights = {getattr(right, "__name__", "") for right in getattr(cls, "permission_classes", ())}
        answers = hasattr(cls, "get") or "get" in (getattr(view, "actions", None) or {})
        # `cache_page` stores no redirect.
        others = {"RedirectView", "AccessMixin", "FormMixin", "ProcessFormView", "DeletionMixin"}
        return answers and not names & others and rights <= {"AllowAny", "IsAuthenticatedOrReadOnly", "DjangoModelPermissionsOrAnonReadOnly"}
    for part in inside(view, {}):
        code = getattr(part, "__code__", None)
        names = getattr(code, "co_freevars", ())
        # `cache_control` has arguments, `never_cache` beside it has none.
        is_never = getattr(code, "co_filename", "").endswith("views/decorators/cache.py") and "kwargs" not in names
        if "test_func" in names or is_never:
            return False
    return True


def literal(pattern):
    """The text that a pattern begins with, and whether that is all of it."""
    text = str(pattern)
    if isinstance(pattern, RoutePattern):
        start = text.split("<")[0]
        return start, start == text
    text = text.removeprefix("^")
    start = re.match(r"(?:[\w/%~:@!,;=' -]|\\[^\w])*", text).group()
    rest = text[len(start):]
    if rest[:1] in ("?", "*", "{"):
        start = start[:-1]
    return re.sub(r"\\(.)", r"\1", start), rest in ("$", r"\Z", r"\z")


def walk(patterns, start, is_whole):
    for pattern in patterns:
        if isinstance(pattern.pattern, LocalePrefixPattern):
            unseen.append("i18n_patterns: the proxy does not know the languages of paths; write rules by hand")
            continue
        text, ends = literal(pattern.pattern) if is_whole else ("", False)
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns, start + text, is_whole and ends_open(pattern.pattern, ends))
        else:
            yield start + text, is_whole and ends, pattern


def ends_open(pattern, ends):
    """Whether an include has no parameters, so that what follows is read on."""
    return ends or (not isinstance(pattern, RoutePattern) and literal_all(str(pattern)))


def literal_all(text):
    return re.fullmatch(r"\^?(?:[\w/%~:@!,;=' -]|\\[^\w])*", text) is not None


def name_of(view):
    cls = getattr(view, "view_class", None) or getattr(view, "cls", None) or view
    return f"{getattr(cls, '__module__', '?')}.{getattr(cls, '__qualname__', type(cls).__name__)}"


def views():
    for path, is_whole, pattern in walk(get_resolver().url_patterns, "/", True):
        view = pattern.callback
        yield {
            "path": path,
            "exact": is_whole,
            "view": name_of(view),
            "cached": cached(view),
            "cacheable": looks_cacheable(view),
        }


def cache(alias):
    given = settings.CACHES[alias]
    options = given.get("OPTIONS") or {}
    location = given.get("LOCATION") or ""
    backend = import_string(given["BACKEND"])
    kinds = {f"{base.__module__}.{base.__qualname__}" for base in backend.__mro__}
    redis = {"django.core.cache.backends.redis.RedisCache", "django_redis.cache.RedisCache"}
    return {
        "backend": given["BACKEND"],
        "is_redis": bool(kinds & redis),
        "location": location if isinstance(location, str) else list(location)[0],
        "key_prefix": str(given.get("KEY_PREFIX") or ""),
        "version": int(given.get("VERSION") or 1),
        "compressor": str(options.get("COMPRESSOR") or ""),
        "serializer": str(options.get("SERIALIZER") or options.get("serializer") or ""),
        "key_function": str(given.get("KEY_FUNCTION") or ""),
    }


def hit_headers():
    """The headers that Django's own middleware adds to each answer."""
    security = "django.middleware.security.SecurityMiddleware" in settings.MIDDLEWARE
    frames = "django.middleware.clickjacking.XFrameOptionsMiddleware" in settings.MIDDLEWARE
    policy = settings.SECURE_REFERRER_POLICY
    return {
        "X-Frame-Options": str(getattr(settings, "X_FRAME_OPTIONS", "DENY")).upper() if frames else "",
        "X-Content-Type-Options": "nosniff" if security and settings.SECURE_CONTENT_TYPE_NOSNIFF else "",
        "Referrer-Policy": (policy if isinstance(policy, str) else ",".join(policy or ())) if security else "",
        "Cross-Origin-Opener-Policy": (settings.SECURE_CROSS_ORIGIN_OPENER_POLICY or "") if security else "",
    }


unseen = []
seen_views = list(views())
locale = "django.middleware.locale.LocaleMiddleware" in settings.MIDDLEWARE
site_wide = "django.middleware.cache.UpdateCacheMiddleware" in settings.MIDDLEWARE
project = {
    "django": django.get_version(),
    "settings": settings.SETTINGS_MODULE,
    "views": seen_views,
    "caches": {alias: cache(alias) for alias in settings.CACHES},
    "site_wide": {
        "timeout": settings.CACHE_MIDDLEWARE_SECONDS,
        "key_prefix": settings.CACHE_MIDDLEWARE_KEY_PREFIX,
        "cache": settings.CACHE_MIDDLEWARE_ALIAS,
    } if site_wide else None,
    "language": settings.LANGUAGE_CODE if settings.USE_I18N else None,
    "languages": [code for code, _ in settings.LANGUAGES] if settings.USE_I18N and locale else [],
    "language_cookie": settings.LANGUAGE_COOKIE_NAME,
    "time_zone": settings.TIME_ZONE if settings.USE_TZ else None,
    "script_name": settings.FORCE_SCRIPT_NAME or "",
    "use_x_forwarded_host": bool(settings.USE_X_FORWARDED_HOST),
    "hit_headers": hit_headers(),
    "hsts": bool(settings.SECURE_HSTS_SECONDS),
    "conditional_get": "django.middleware.http.ConditionalGetMiddleware" in settings.MIDDLEWARE,
    "middleware": [name for name in settings.MIDDLEWARE if not name.startswith("django.")],
    "unseen": sorted(set(unseen)),
}
print("cachepage-project " + json.dumps(project))
