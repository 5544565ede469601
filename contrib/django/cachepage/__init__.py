"""Pages that follow what they show.

Answers get tags of the models that they show (`tags`). When a transaction that changes models commits, the pages with
their tags are purged (`changes`) at a Cachepage proxy (`client`).
"""

from cachepage.changes import purge
from cachepage.client import send
from cachepage.tags import TaggedMixin, add_tags, tagged

__all__ = ["TaggedMixin", "add_tags", "purge", "send", "tagged"]
