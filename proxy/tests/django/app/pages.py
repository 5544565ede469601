"""The pages. Each says in its body which call of a view made it, so that a test sees who made what it got."""

import itertools
import time

from django.http import HttpResponse, HttpResponseNotFound, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.utils.http import http_date
from django.utils.translation import get_language
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.clickjacking import xframe_options_exempt, xframe_options_sameorigin
from django.views.decorators.vary import vary_on_cookie, vary_on_headers

CALLS = itertools.count(1)


def call(text="page"):
    return f"{text} {next(CALLS)}"


def text(headers=None, **options):
    """A view of a plain page with these headers."""

    def view(request):
        return HttpResponse(call(), headers=headers, **options)

    return view


def chunks(request):
    response = HttpResponse([call(), b" and", " more"])
    response.write(" \u00e9")
    response.writelines([b"\x00\xff", "end"])
    return response


def cookie(request):
    response = HttpResponse(call())
    response.set_cookie("sid", "a b;c", max_age=60, path="/x", httponly=True, samesite="Lax")
    response.set_cookie("other", "1")
    return response


def session(request):
    return HttpResponse(call(f"of {request.session.get('who')}"))


def session_written(request):
    request.session["who"] = "me"
    return HttpResponse(call())


def template(request):
    page = engines["django"].from_string("<p>{{ call }} {{ path }}</p>")
    return TemplateResponse(request, page, {"call": call(), "path": request.path})


def translated(request):
    return HttpResponse(call(get_language() or "no language"), headers={"Content-Language": get_language() or "-"})


def authorized(request):
    return HttpResponse(call(f"for {request.headers.get('Authorization', 'anybody')}"))


def asked(request):
    """What was asked, with the headers that the page says it varies on."""
    vary = request.headers.get("X-Vary")
    body = call(" ".join(f"{name}={request.headers.get(name)!r}" for name in ("X-A", "X-B")))
    return HttpResponse(body, headers={"Vary": vary} if vary is not None else None)


class Shop(HttpResponse):
    """A class of the site's own, with state of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.basket = {"items": [1, 2.5, (None, True)], "seen": {1, 2}, "big": 1 << 70}


PAGES = {
    "plain": text(),
    "text": text(content_type="text/plain; charset=utf-8"),
    "latin1": lambda request: HttpResponse(call("caf\u00e9"), charset="iso-8859-1"),
    "unicode": lambda request: JsonResponse({"name": "\u65e5\u672c \U0001f600 \u2028", "call": call()}),
    "json-odd": lambda request: JsonResponse({"name": "\u00e9", "call": call()}, json_dumps_params={"ensure_ascii": False}),
    "empty": lambda request: HttpResponse(b""),
    "large": lambda request: HttpResponse(call("x" * 300_000)),
    "binary": lambda request: HttpResponse(bytes(range(256)) * 300 + call().encode(), content_type="image/png"),
    "chunks": chunks,
    "template": template,
    "shop": lambda request: Shop(call()),
    "header-latin1": text({"X-Name": "caf\u00e9 \u00ff", "X-Empty": "", "x-lower-CASE": "1"}),
    "header-unicode": text({"X-Name": "\u65e5\u672c", "Content-Disposition": "attachment; filename=\"\u00e9\""}),
    "header-etag": text({"ETag": '"abc"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "Content-Language": "de"}),
    "header-length": lambda request: HttpResponse((body := call()), headers={"Content-Length": str(len(body))}),
    "header-age": text({"Age": "17"}),
    "encoding": text({"Content-Encoding": "identity"}),
    "reason": text(reason="Quite Fine"),
    "reason-latin1": text(reason="Pas mal \u00e9"),
    "public": text({"Cache-Control": "public"}),
    "age-10": text({"Cache-Control": "max-age=10"}),
    "age-0": text({"Cache-Control": "max-age=0"}),
    "age-3600": text({"Cache-Control": "Max-Age=3600, s-maxage=5, must-revalidate"}),
    "age-negative": text({"Cache-Control": "max-age=-1"}),
    "cc-odd": text({"Cache-Control": "foo=\"a b\",, bar ,immutable"}),
    "expires-past": text({"Expires": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    "expires-0": text({"Expires": "0"}),
    "expires-soon": lambda request: HttpResponse(call(), headers={"Expires": http_date(time.time() + 20)}),
    "vary": vary_on_headers("X-A", "X-B")(text()),
    "vary-language": vary_on_headers("Accept-Language", "X-A")(text()),
    "vary-odd": text({"Vary": " X-A ,X-B,, X-A"}),
    "vary-empty": text({"Vary": ""}),
    "vary-comma": text({"Vary": "X-A,"}),
    "vary-type": text({"Vary": "Content-Type, Host"}),
    "vary-cookie": vary_on_cookie(text()),
    "session": session,
    "translated": translated,
    "frame-exempt": xframe_options_exempt(text()),
    "frame-same": xframe_options_sameorigin(text()),
    "policies": text({"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "unsafe-none"}),
    # What both keep out of the cache.
    "not-private": text({"Cache-Control": "private"}),
    "not-stored": cache_control(no_store=True)(text()),
    "never": never_cache(text()),
    "vary-star": text({"Vary": "*"}),
    "missing": lambda request: HttpResponseNotFound(call()),
    "streamed": lambda request: StreamingHttpResponse([call(), "end"]),
    # What the proxy alone keeps out.
    "cookie": cookie,
    "session-written": session_written,
    "token": lambda request: HttpResponse(call(get_token(request)[:0])),
    # Of their own tests.
    "authorized": authorized,
    "authorized-public": cache_control(public=True)(authorized),
    "asked": asked,
}
