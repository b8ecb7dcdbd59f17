"""Features of the item with the session, compiled: clicked after its clicks, or with them; content."""

from headrace.models.features.columns import Columns
from headrace.models.features.inputs import Candidates, RequestContext

def fill_pairs(m: Columns, c: Candidates) -> None:
    """Fill how strongly each item follows the session's clicks; ``fill_item`` must have run before."""

def fill_content(m: Columns, c: Candidates, ctx: RequestContext) -> None:
    """Fill the similarity of each item's content to the user's vector and to the last click's."""

def fill_prior(m: Columns) -> None:
    """Fill the sum of pairs and clicks, both of late; the other features of them must be filled before.

    Trees cannot build such a sum well, and are better when it is one of their features. Clicks are those of
    the country, close to all clicks where it has few, and those of the last quarter of an hour.
    """
