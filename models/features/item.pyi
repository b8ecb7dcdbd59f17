"""Features of the item, compiled: windows, age, and its rank among the candidates and in the country."""

from headrace.models.features.columns import Columns
from headrace.models.features.inputs import Candidates, RequestContext

def fill_item(m: Columns, c: Candidates, ctx: RequestContext) -> None:
    """Fill the features of each item: counts, rates, age, and its place among the candidates."""

def fill_country(m: Columns, c: Candidates) -> None:
    """Fill the clicks from the request's country; ``fill_item`` must have run before."""
