"""What answers name in Surrogate-Key."""

from unittest import skipUnless

from django.test import AsyncClient, SimpleTestCase, TestCase

from cachepage import tags
from tests.models import Agent, Cheap, Dated, Entry, Feature, Home, Villa
from tests.settings import HAS_DRF

LIST = "tests.home tests.home:list"
AGENTS = "tests.agent tests.agent:list"


class NamesTest(SimpleTestCase):
    def test_a_row_is_named_by_its_key(self):
        self.assertEqual(tags.shown_tags(Home(pk=5)), ["tests.home", "tests.home:5"])
        self.assertEqual(tags.changed_tags(Home(pk=5)), ["tests.home:5", "tests.home:list"])

    def test_a_model_is_named_by_all_its_rows(self):
        for all_homes in (Home, Home.objects, Home.objects.filter(pk=1), Cheap):
            self.assertEqual(" ".join(tags.shown_tags(all_homes)), LIST)
            self.assertEqual(tags.changed_tags(all_homes), ["tests.home"])

    def test_a_model_may_have_a_property_called_model(self):
        for entries in (Entry, Entry.objects, Entry.objects.filter(pk=1)):
            self.assertEqual(tags.shown_tags(entries), ["tests.entry", "tests.entry:list"])
            self.assertEqual(tags.changed_tags(entries), ["tests.entry"])

    def test_a_row_of_a_child_is_a_row_of_its_parent(self):
        villa = Villa(pk=7, id=7)
        self.assertEqual(tags.shown_tags(villa), ["tests.villa", "tests.home", "tests.villa:7", "tests.home:7"])
        self.assertEqual(
            tags.changed_tags(villa), ["tests.villa:7", "tests.home:7", "tests.villa:list", "tests.home:list"]
        )
        self.assertEqual(tags.changed_tags(Villa), ["tests.villa", "tests.home"])

    def test_a_key_with_blanks_is_one_tag(self):
        self.assertEqual(tags.shown_tags(Feature(pk="sea, view"))[1], "tests.feature:sea%2C%20view")

    def test_an_abstract_model_is_refused(self):
        with self.assertRaisesMessage(TypeError, "Dated is abstract"):
            tags.shown_tags(Dated)

    def test_a_page_is_found_by_each_change_of_what_it_shows(self):
        row, other = Home(pk=5), Home(pk=6)
        for shown, changed, is_found in [
            (row, row, True),
            (row, other, False),
            (row, Home, True),
            (Home, row, True),
            (Home, Home, True),
            (Villa(pk=5, id=5), row, True),
            (row, Villa(pk=5, id=5), True),
            (Villa, row, True),
            (Agent, row, False),
        ]:
            common = set(tags.shown_tags(shown)) & set(tags.changed_tags(changed))
            self.assertEqual(bool(common), is_found, (shown, changed))


class AnswersTest(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.home = Home.objects.create(title="one", agent=Agent.objects.create(name="a"))

    def tags(self, path, status=200):
        answer = self.client.get(path)
        self.assertEqual(answer.status_code, status)
        return answer.get("Surrogate-Key", "")

    def test_a_decorated_view_names_what_it_shows(self):
        self.assertEqual(self.tags("/plain/"), f"{AGENTS} front-page")
        self.assertEqual(self.tags("/homes/5/"), "tests.home tests.home:5")

    def test_a_class_based_view_names_its_rows(self):
        pk = self.home.pk
        self.assertEqual(self.tags("/list/"), f"{LIST} {AGENTS}")
        self.assertEqual(self.tags(f"/detail/{pk}/"), f"tests.home tests.home:{pk}")

    def test_only_a_200_has_tags(self):
        self.assertEqual(self.tags("/missing/", 404), "")

    async def test_asynchronous_views_are_tagged_too(self):
        for path, expected in [("/awaited/", AGENTS), ("/awaited-class/", LIST)]:
            answer = await AsyncClient().get(path)
            self.assertEqual(answer["Surrogate-Key"], expected)

    def test_many_rows_are_named_by_their_model(self):
        self.assertEqual(self.tags("/some/2/"), "tests.home tests.home:0 tests.home:1")
        self.assertEqual(self.tags("/some/31/"), LIST)

    @skipUnless(HAS_DRF, "needs Django REST Framework")
    def test_a_view_of_rest_framework_names_its_rows(self):
        pk = self.home.pk
        self.assertEqual(self.tags("/api/"), f"{LIST} {AGENTS}")
        self.assertEqual(self.tags(f"/api/{pk}/"), f"tests.home tests.home:{pk} {AGENTS}")
        self.assertEqual(self.tags("/api/999/", 404), "")
