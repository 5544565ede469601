"""Pages of Wagtail, one that names its tags and one that only its backend purges, and rows of an API."""

from cachepage.wagtail import TaggedPage
from django.db import models
from wagtail.models import Page


class Article(TaggedPage, Page):
    text = models.CharField(max_length=100)
    template = "shop/page.html"
    content_panels = [*Page.content_panels, "text"]


class Imprint(Page):
    text = models.CharField(max_length=100)
    template = "shop/page.html"
    content_panels = [*Page.content_panels, "text"]


class Home(models.Model):
    title = models.CharField(max_length=100)
    price = models.IntegerField()
