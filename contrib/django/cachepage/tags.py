"""The tags of pages: the models and rows that they show.

`shop.home`       every page that shows anything of the model
`shop.home:5`     pages that show the row with this primary key
`shop.home:list`  pages that show some of the rows, such as lists: any row that is saved may change them

A model that inherits from others with tables of their own has their tags, too, since a row of it is a row of each.
"""

from functools import wraps
from inspect import isawaitable, iscoroutinefunction
from urllib.parse import quote

from django.db.models import Model

HEADER = "Surrogate-Key"

# The proxy stores no page with more than 128 tags. A page that shows more rows than this has the tag of a list.
MOST_ROWS = 30


def models_of(model):
    """The model and those that it inherits from, as far as they have tables."""
    if model._meta.abstract:
        raise TypeError(f"{model.__name__} is abstract: name a model that has a table")
    concrete = model._meta.concrete_model
    return [concrete, *concrete._meta.get_parent_list()]


def model_of(named):
    """A model itself, or that of a manager or a queryset. A model may have a field or a property called `model`."""
    return named if isinstance(named, type) else named.model


def row_tag(model, key):
    return f"{model._meta.label_lower}:{quote(str(key), safe='')}"


def list_tag(model):
    return f"{model._meta.label_lower}:list"


def row_tags(row):
    """The tags of this row in each of its tables."""
    return [row_tag(model, getattr(row, model._meta.pk.attname)) for model in models_of(type(row))]


def shown_tags(shown):
    """The tags of a page that shows this: a tag, a row, or rows of a model, a manager or a queryset."""
    if isinstance(shown, str):
        return [shown]
    if isinstance(shown, Model):
        return [model._meta.label_lower for model in models_of(type(shown))] + row_tags(shown)
    models = models_of(model_of(shown))
    return [tag for model in models for tag in (model._meta.label_lower, list_tag(model))]


def changed_tags(changed):
    """The tags of the pages that a change makes old: of a row, or of unknown rows of a model."""
    if isinstance(changed, str):
        return [changed]
    if isinstance(changed, Model):
        return row_tags(changed) + [list_tag(model) for model in models_of(type(changed))]
    return [model._meta.label_lower for model in models_of(model_of(changed))]


def add_tags(response, *shown):
    """Names in an answer what it shows, beside what it names already."""
    if sum(isinstance(one, Model) for one in shown) > MOST_ROWS:
        shown = [type(one) if isinstance(one, Model) else one for one in shown]
    tags = response.get(HEADER, "").split()
    for one in shown:
        tags += shown_tags(one)
    if tags:
        response[HEADER] = " ".join(dict.fromkeys(tags))
    return response


def tagged(*shown, **rows):
    """Decorates a view whose answers show these models, and the rows that arguments of its URL name.

    `@tagged(Agent, pk=Home)`: some agents, and the home whose primary key is the argument `pk`.
    """

    def tag(response, arguments):
        for name, model in rows.items():
            add_tags(response, model._meta.label_lower, row_tag(model._meta.concrete_model, arguments[name]))
        return add_tags(response, *shown)

    def decorate(view):
        @wraps(view)
        def plain(request, *args, **kwargs):
            return tag(view(request, *args, **kwargs), kwargs)

        @wraps(view)
        async def awaiting(request, *args, **kwargs):
            return tag(await view(request, *args, **kwargs), kwargs)

        return awaiting if iscoroutinefunction(view) else plain

    return decorate


class TaggedMixin:
    """Tags the answers of a class-based view, of Django or of Django REST Framework.

    A view with `get_object` shows that row, another the rows of its queryset. `shows` has what it shows besides.
    """

    shows = ()

    def dispatch(self, request, *args, **kwargs):
        response = super().dispatch(request, *args, **kwargs)
        return self._tag_later(response) if isawaitable(response) else self._tag(response)

    def get_object(self, *args, **kwargs):
        self._shown_row = super().get_object(*args, **kwargs)
        return self._shown_row

    def shown(self):
        """What the answer shows."""
        if (row := getattr(self, "_shown_row", None)) is not None:
            return [row, *self.shows]
        if (model := getattr(self, "model", None)) is not None:
            return [model, *self.shows]
        return [self.get_queryset(), *self.shows] if hasattr(self, "get_queryset") else [*self.shows]

    def _tag(self, response):
        return add_tags(response, *self.shown()) if response.status_code == 200 else response

    async def _tag_later(self, response):
        return self._tag(await response)
