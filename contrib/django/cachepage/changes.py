"""Purges what a transaction has changed, in one request when it commits. A rollback purges nothing."""

from functools import wraps

from django.db import transaction
from django.db.models import QuerySet, signals

from cachepage import client
from cachepage.tags import changed_tags, list_tag, models_of, row_tag

# More related rows than this are purged as unknown rows of their model.
MOST_ROWS = 100


class Changes:
    """The tags that a transaction makes old. It is a hook of the transaction, and of each savepoint in which it grew.

    A savepoint that is rolled back leaves its tags, which purges more than it must, as long as the transaction commits.
    """

    def __init__(self):
        self.tags = {}

    def __call__(self):
        tags, self.tags = self.tags, {}
        if tags:
            client.send("tag", list(tags))


def purge(*changed, using=None):
    """Purges the pages that show this, when the transaction commits: tags, rows, models (all their rows)."""
    connection = transaction.get_connection(using)
    hooks = [(saved, hook) for saved, hook, *_ in connection.run_on_commit if isinstance(hook, Changes)]
    changes = hooks[0][1] if hooks else Changes()
    for one in changed:
        changes.tags.update(dict.fromkeys(changed_tags(one)))
    # A hook of a savepoint that has ended may be dropped with another one; this change needs a hook that lives as long.
    if not any(saved <= set(connection.savepoint_ids) for saved, _ in hooks):
        transaction.on_commit(changes, using=using)


def watch():
    """Hears of all changes that Django's signals tell, and of bulk methods, which send none."""
    signals.post_save.connect(row_changed, dispatch_uid="cachepage")
    signals.post_delete.connect(row_changed, dispatch_uid="cachepage")
    signals.m2m_changed.connect(relation_changed, dispatch_uid="cachepage")
    for name in ("update", "bulk_create"):
        setattr(QuerySet, name, watched(getattr(QuerySet, name)))


def is_ignored(model):
    ignored = client.settings()["IGNORE"]
    return model._meta.app_label in ignored or model._meta.label_lower in ignored


def row_changed(sender, instance, using, **_):
    if not is_ignored(sender):
        purge(instance, using=using)


def relation_changed(sender, instance, action, model, pk_set, using, **_):
    if action not in ("post_add", "post_remove", "post_clear") or pk_set == set() or is_ignored(sender):
        return
    purge(instance, sender, *related_tags(model, pk_set), using=using)


def related_tags(model, keys):
    """The tags of the other side of a relation. Which rows a `clear()` has taken from it is not told."""
    if keys is None or len(keys) > MOST_ROWS:
        return changed_tags(model)
    models = models_of(model)
    return [row_tag(one, key) for one in models for key in keys] + [list_tag(one) for one in models]


def watched(method):
    """A method of querysets that changes rows, which it does not name."""
    if hasattr(method, "is_watched"):
        return method

    @wraps(method)
    def change(queryset, *args, **kwargs):
        changed = method(queryset, *args, **kwargs)
        if changed and not is_ignored(queryset.model):
            purge(queryset.model, using=queryset.db)
        return changed

    change.is_watched = True
    return change
