"""Sends purges to a proxy: by `POST /purge` of its admin listener, or by `PURGE` of its data port. A purge that fails is
logged; it never fails the site, which waits for it no longer than a timeout."""

import json
import logging
import socket
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.checks import Error, Warning
from django.utils.encoding import iri_to_uri

logger = logging.getLogger("cachepage")

DEFAULTS = {
    # The admin listener: "http://127.0.0.1:8002" or "unix:/run/cachepage/admin.sock".
    "ADMIN": "",
    # Or the data port, which then needs [purge] in the proxy's settings: "http://127.0.0.1:8000".
    "PROXY": "",
    "TOKEN": "",
    # Seconds that the site waits for each answer of the proxy.
    "TIMEOUT": 1.0,
    # Applications and models ("app" or "app.model") that no page shows.
    "IGNORE": ("admin", "contenttypes", "migrations", "sessions"),
}

# Less than the proxy reads in a body and in a header line, and at once.
MOST_BYTES = 500_000
MOST_HEADER_BYTES = 7_000
MOST_SELECTORS = 1_000


def settings():
    return {**DEFAULTS, **getattr(django_settings, "CACHEPAGE", {})}


def send(kind, selectors=(), *, soft=False, to=None):
    """Purges pages at once, and says whether the proxy has taken it.

    `kind` is "tag", "uri", "uri-prefix", "origin" or "all". `soft` makes pages stale instead of dropping them. `to` has
    settings other than those of the site.
    """
    to = {**DEFAULTS, **to} if to else settings()
    if not (to["ADMIN"] or to["PROXY"]):
        return False
    try:
        connection = connect(to["ADMIN"] or to["PROXY"], to["TIMEOUT"])
        try:
            selectors = [iri_to_uri(url) for url in selectors] if kind.startswith("uri") else list(selectors)
            for method, target, headers, body in requests(kind, selectors, soft, to):
                ask(connection, method, target, headers, body)
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError) as error:
        logger.error("pages are not purged and stay until their timeout: %s (%s %s)", error, kind, selectors)
        return False
    return True


def requests(kind, selectors, soft, to):
    """The requests of a purge: method, target, headers, body."""
    headers = {"Authorization": f"Bearer {to['TOKEN']}"} if to["TOKEN"] else {}
    if to["ADMIN"]:
        headers["Content-Type"] = "application/json"
        for some in [[]] if kind == "all" else pieces(selectors, MOST_BYTES):
            body = json.dumps({"type": kind, "selectors": some, "purge": not soft})
            yield "POST", "/purge", headers, body.encode()
        return
    if soft:
        headers["Fastly-Soft-Purge"] = "1"
    if kind == "tag":
        for some in pieces(selectors, MOST_HEADER_BYTES):
            yield "PURGE", "/", {**headers, "Surrogate-Key": " ".join(some)}, None
    elif kind == "uri":
        for url in map(urlsplit, selectors):
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            yield "PURGE", target, {**headers, "Host": url.netloc}, None
    else:
        raise ValueError(f'a purge of the kind "{kind}" needs CACHEPAGE["ADMIN"]')


def pieces(selectors, most):
    """Lists of selectors that are together not longer than this."""
    piece, length = [], 0
    for selector in selectors:
        if piece and (length + len(selector) > most or len(piece) == MOST_SELECTORS):
            yield piece
            piece, length = [], 0
        piece.append(selector)
        length += len(selector) + 4
    if piece:
        yield piece


def ask(connection, method, target, headers, body):
    connection.request(method, target, body=body, headers=headers)
    answer = connection.getresponse()
    said = answer.read(10_000)
    if answer.status != 200:
        raise HTTPException(f"the proxy answers {answer.status} {said.decode('utf-8', 'replace').strip()}")


class UnixConnection(HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def connect(address, timeout):
    if address.startswith("unix:"):
        return UnixConnection(address.removeprefix("unix:"), timeout)
    url = urlsplit(address)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    return kind(url.hostname, url.port, timeout=timeout)


def check_settings(app_configs, **_):
    """What `manage.py check` says of the settings."""
    given = getattr(django_settings, "CACHEPAGE", {})
    unknown = sorted(set(given) - set(DEFAULTS))
    found = [Error(f"CACHEPAGE has no setting {name}", hint=f"one of {', '.join(DEFAULTS)}", id="cachepage.E001")
             for name in unknown]
    if not (given.get("ADMIN") or given.get("PROXY")):
        hint = 'CACHEPAGE = {"ADMIN": "http://127.0.0.1:8002"}'
        found.append(Warning("CACHEPAGE names no proxy: nothing is purged", hint=hint, id="cachepage.W001"))
    return found
