"""Homes with agents; a villa is a home with a table of its own."""

from django.db import models


class Agent(models.Model):
    name = models.CharField(max_length=50)


class Feature(models.Model):
    name = models.CharField(max_length=50, primary_key=True)


class Home(models.Model):
    title = models.CharField(max_length=50)
    price = models.IntegerField(default=0)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, null=True)
    features = models.ManyToManyField(Feature)


class Villa(Home):
    pool = models.BooleanField(default=True)


class Cheap(Home):
    class Meta:
        proxy = True


class Entry(models.Model):
    """An entry of an index, as Wagtail's search has them: it says which model it is of."""

    title = models.CharField(max_length=50)

    @property
    def model(self):
        return Home


class Dated(models.Model):
    class Meta:
        abstract = True
