"""The requests that a proxy gets."""

import json
import tempfile
from pathlib import Path

from django.core.checks import run_checks
from django.test import SimpleTestCase, override_settings

from cachepage import send
from tests.proxy import Proxy
from tests.settings import HAS_WAGTAIL


class ClientTest(SimpleTestCase):
    def setUp(self):
        self.proxy = Proxy()
        self.addCleanup(self.proxy.close)

    def sent(self, *args, **kwargs):
        """Method, target and body of each request."""
        self.assertTrue(send(*args, **kwargs))
        requests = [(method, path, json.loads(body or "null")) for method, path, _, body in self.proxy.requests]
        self.proxy.requests.clear()
        return requests

    def test_the_admin_listener_gets_json(self):
        to = {"ADMIN": self.proxy.url}
        body = {"type": "tag", "selectors": ["a", "b"], "purge": True}
        self.assertEqual(self.sent("tag", ["a", "b"], to=to), [("POST", "/purge", body)])
        body = {"type": "uri", "selectors": ["https://h/caf%C3%A9/"], "purge": False}
        self.assertEqual(self.sent("uri", ["https://h/café/"], soft=True, to=to), [("POST", "/purge", body)])
        body = {"type": "all", "selectors": [], "purge": True}
        self.assertEqual(self.sent("all", to=to), [("POST", "/purge", body)])

    def test_what_is_too_long_for_a_request_becomes_several(self):
        tags = [f"tag-{number:06}" for number in range(50_000)]
        bodies = [body for *_, body in self.sent("tag", tags, to={"ADMIN": self.proxy.url})]
        self.assertEqual([tag for body in bodies for tag in body["selectors"]], tags)
        self.assertTrue(all(len(json.dumps(body)) < 1 << 20 for body in bodies))
        self.sent("tag", tags[:2000], to={"PROXY": self.proxy.url})

    def test_the_token_is_sent(self):
        self.assertTrue(send("all", to={"ADMIN": self.proxy.url, "TOKEN": "secret"}))
        self.assertEqual(self.proxy.requests[0][2]["Authorization"], "Bearer secret")

    def test_a_unix_socket_is_asked(self):
        with tempfile.TemporaryDirectory() as folder:
            proxy = Proxy(str(Path(folder) / "admin.sock"))
            self.addCleanup(proxy.close)
            self.assertTrue(send("all", to={"ADMIN": proxy.url}))
            self.assertEqual([(method, path) for method, path, *_ in proxy.requests], [("POST", "/purge")])

    def test_the_data_port_gets_purge(self):
        to = {"PROXY": self.proxy.url}
        self.assertTrue(send("tag", ["a", "b"], soft=True, to=to))
        method, path, headers, _ = self.proxy.requests[-1]
        self.assertEqual((method, path, headers["Surrogate-Key"]), ("PURGE", "/", "a b"))
        self.assertEqual(headers["Fastly-Soft-Purge"], "1")
        self.assertTrue(send("uri", ["https://shop.example:8443/a/?page=2", "http://other.example"], to=to))
        for (method, path, headers, _), expected in zip(
            self.proxy.requests[-2:], [("/a/?page=2", "shop.example:8443"), ("/", "other.example")]
        ):
            self.assertEqual((method, path, headers["Host"]), ("PURGE", *expected))
        with self.assertLogs("cachepage", "ERROR") as logs:
            self.assertFalse(send("uri-prefix", ["https://shop.example/a"], to=to))
        self.assertIn('needs CACHEPAGE["ADMIN"]', logs.output[0])

    def test_an_answer_other_than_200_is_logged(self):
        self.proxy.server.status = 403
        with self.assertLogs("cachepage", "ERROR") as logs:
            self.assertFalse(send("tag", ["a"], to={"ADMIN": self.proxy.url}))
        self.assertIn("the proxy answers 403", logs.output[0])

    def test_a_site_without_a_proxy_sends_nothing(self):
        self.assertFalse(send("all"))

    def test_wrong_settings_are_told_by_check(self):
        with override_settings(CACHEPAGE={"ADMIM": "x"}):
            found = [message.id for message in run_checks() if message.id.startswith("cachepage.")]
        self.assertEqual(found, ["cachepage.E001", "cachepage.W001"])

    def test_a_batch_of_wagtail_is_one_request(self):
        if not HAS_WAGTAIL:
            self.skipTest("needs Wagtail")
        from cachepage.wagtail import CachepageBackend

        urls = ["https://h/a/", "https://h/b/"]
        with override_settings(CACHEPAGE={"ADMIN": self.proxy.url}):
            CachepageBackend({}).purge_batch(urls)
            CachepageBackend({"HOSTNAMES": ["h"]}).purge(urls[0])
        CachepageBackend({"ADMIN": self.proxy.url}).purge(urls[0])
        self.assertEqual([body["selectors"] for body in self.proxy.take()], [urls, urls[:1], urls[:1]])
