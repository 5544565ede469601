"""A WSGI application that says what it was asked."""


def application(environ, start_response):
    length = len(environ["wsgi.input"].read())
    text = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} with {length} bytes"
    headers = [("Content-Type", "text/plain"), ("X-Threads", str(environ["wsgi.multithread"]))]
    if environ["PATH_INFO"] != "/pieces":
        start_response("200 OK", [*headers, ("Content-Length", str(len(text)))])
        return [text.encode()]
    # Without a length it goes out in chunks.
    start_response("200 OK", headers)
    return (b"piece " * 1000 for _ in range(50))
