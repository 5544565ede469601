"""A proxy that answers as it is told, and keeps what it was asked."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def take(self):
        length = int(self.headers.get("Content-Length", 0))
        self.server.requests.append((self.command, self.path, self.headers, self.rfile.read(length)))
        self.server.may_answer.wait()
        self.send_response(self.server.status)
        body = b'{"status":"ok","id":"1-0"}'
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PURGE = take

    def address_string(self):
        return "client"

    def log_message(self, *_):
        pass


class Threads(socketserver.ThreadingMixIn):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that has not waited for its answer is what a test wants."""


class Server(Threads, socketserver.TCPServer):
    pass


class UnixServer(Threads, socketserver.UnixStreamServer):
    pass


class Proxy:
    """Listens on a free port, or on a Unix socket."""

    def __init__(self, path=None):
        server = UnixServer(path, Handler) if path else Server(("127.0.0.1", 0), Handler)
        server.requests, server.status, server.may_answer = [], 200, threading.Event()
        server.may_answer.set()
        self.server, self.requests = server, server.requests
        self.url = f"unix:{path}" if path else f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def take(self):
        """The bodies of what came since the last call."""
        taken = [json.loads(body) for _, _, _, body in self.requests]
        self.requests.clear()
        return taken

    def close(self):
        self.server.may_answer.set()
        self.server.shutdown()
        self.server.server_close()
