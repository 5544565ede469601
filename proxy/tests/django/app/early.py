"""Answers each request without reading its body."""


def application(environ, start_response):
    start_response("401 Unauthorized", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"early"]
