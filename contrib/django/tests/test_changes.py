"""What each change purges, and when."""

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import TransactionTestCase, override_settings
from django.utils.timezone import now

from cachepage import purge
from tests.models import Agent, Entry, Feature, Home, Villa
from tests.proxy import Proxy


class ChangesTest(TransactionTestCase):
    def setUp(self):
        self.home = Home.objects.create(title="one")
        self.agent = Agent.objects.create(name="a")
        self.sea = Feature.objects.create(name="sea")
        self.proxy = Proxy()
        self.addCleanup(self.proxy.close)
        settings = override_settings(CACHEPAGE={"ADMIN": self.proxy.url})
        settings.enable()
        self.addCleanup(settings.disable)

    def assert_purged(self, *requests):
        """One request for each list of tags, which come as one text."""
        taken = self.proxy.take()
        self.assertTrue(all(one["type"] == "tag" and one["purge"] for one in taken), taken)
        self.assertEqual([sorted(one["selectors"]) for one in taken], [sorted(one.split()) for one in requests])

    def row(self, home=None):
        return f"tests.home:{(home or self.home).pk} tests.home:list"

    def test_a_row_that_is_saved_or_deleted(self):
        self.home.price = 1
        self.home.save()
        self.assert_purged(self.row())
        row = self.row()
        self.home.delete()
        self.assert_purged(row)

    def test_a_cascade_is_one_request(self):
        self.home.agent = self.agent
        self.home.save()
        self.proxy.take()
        expected = f"{self.row()} tests.agent:{self.agent.pk} tests.agent:list"
        self.agent.delete()
        self.assert_purged(expected)

    def test_a_row_of_two_tables(self):
        villa = Villa.objects.create(title="v")
        self.assert_purged(f"tests.villa:{villa.pk} tests.villa:list {self.row(villa)}")

    def test_a_transaction_is_one_request_when_it_commits(self):
        with transaction.atomic():
            self.home.save()
            for number in range(3):
                with transaction.atomic():
                    Agent.objects.create(pk=number + 100, name="b")
            self.assertEqual(self.proxy.requests, [])
        agents = " ".join(f"tests.agent:{number + 100}" for number in range(3))
        self.assert_purged(f"{self.row()} {agents} tests.agent:list")

    def test_savepoints_that_change_alone_are_one_request(self):
        with transaction.atomic():
            for home in (self.home, self.home):
                with transaction.atomic():
                    home.save()
        self.assert_purged(self.row())

    def test_a_rollback_purges_nothing(self):
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            self.home.save()
            Home.objects.update(price=3)
            1 / 0
        self.assert_purged()
        # And nothing of it comes later.
        self.agent.save()
        self.assert_purged(f"tests.agent:{self.agent.pk} tests.agent:list")

    def test_a_change_after_a_savepoint_that_was_rolled_back(self):
        with transaction.atomic():
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                self.agent.save()
                1 / 0
            self.home.save()
        self.assert_purged(self.row())

    def test_a_change_outlives_a_later_savepoint_that_is_rolled_back(self):
        with transaction.atomic():
            with transaction.atomic():
                self.home.save()
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                self.home.save()
                1 / 0
        self.assert_purged(self.row())

    def test_bulk_changes_purge_all_rows_of_the_model(self):
        Home.objects.filter(pk=self.home.pk).update(price=2)
        self.assert_purged("tests.home")
        Home.objects.bulk_create([Home(title="two")])
        self.assert_purged("tests.home")
        self.home.price = 3
        Home.objects.bulk_update([self.home], ["price"])
        self.assert_purged("tests.home")
        Entry.objects.bulk_create([Entry(title="home")])
        self.assert_purged("tests.entry")
        Entry.objects.update(title="house")
        self.assert_purged("tests.entry")
        Home.objects.filter(pk=0).update(price=2)
        Home.objects.bulk_create([])
        self.assert_purged()

    def test_bulk_deletes_name_their_rows(self):
        expected = self.row()
        Home.objects.all().delete()
        self.assert_purged(expected)

    def test_relations_purge_both_sides(self):
        feature = "tests.feature:sea tests.feature:list tests.home_features"
        self.home.features.add(self.sea)
        self.proxy.requests[:-1] = []
        self.assert_purged(f"{self.row()} {feature}")
        self.home.features.add(self.sea)
        self.assert_purged()
        self.sea.home_set.clear()
        [taken] = self.proxy.take()
        self.assertLessEqual({"tests.feature:sea", "tests.home"}, set(taken["selectors"]))

    def test_what_no_page_shows_purges_nothing(self):
        Session.objects.create(session_key="k", session_data="", expire_date=now())
        self.assert_purged()
        with override_settings(CACHEPAGE={"ADMIN": self.proxy.url, "IGNORE": ["tests.home"]}):
            self.home.save()
            Home.objects.update(price=1)
            self.assert_purged()
            self.agent.save()
        self.assert_purged(f"tests.agent:{self.agent.pk} tests.agent:list")

    def test_what_the_site_purges_by_itself(self):
        with transaction.atomic():
            purge("menu", Home, self.agent)
            self.assertEqual(self.proxy.requests, [])
        self.assert_purged(f"menu tests.home tests.agent:{self.agent.pk} tests.agent:list")

    def test_a_save_in_the_admin(self):
        User.objects.create_superuser("root", password="p")
        self.client.login(username="root", password="p")
        self.proxy.take()
        form = {"title": "new", "price": 9, "features": ["sea"], "agent": self.agent.pk}
        answer = self.client.post(f"/admin/tests/home/{self.home.pk}/change/", form)
        self.assertEqual(answer.status_code, 302)
        self.assert_purged(f"{self.row()} tests.feature:sea tests.feature:list tests.home_features")

    def test_a_proxy_that_is_away_or_slow_fails_no_site(self):
        self.proxy.server.may_answer.clear()
        with override_settings(CACHEPAGE={"ADMIN": self.proxy.url, "TIMEOUT": 0.05}):
            with self.assertLogs("cachepage", "ERROR") as logs:
                self.home.save()
        self.assertIn("pages are not purged and stay until their timeout: timed out", logs.output[0])
        with override_settings(CACHEPAGE={"ADMIN": "http://127.0.0.1:1"}):
            with self.assertLogs("cachepage", "ERROR"):
                self.home.save()
