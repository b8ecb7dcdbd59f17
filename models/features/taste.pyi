"""Features of the taste, compiled: how much more often than others a user is likely to click a category."""

from headrace.models.features.columns import Columns
from headrace.models.features.inputs import RequestContext

def fill_lifts(m: Columns, ctx: RequestContext, *, names: bool) -> None:
    """Fill the lifts of each candidate's category; ``fill_item`` and ``fill_taste`` must have run before.

    They are logs of the expected click rate, against that of a category nothing is known of. Liked categories
    are clicked ``TIMES`` as often as others. Evidence is added to the log-odds to be liked; it stays within
    some dozens (``history.py``).

    Parameters
    ----------
    names
        The user names preferred categories.

    Raises
    ------
    ValueError
        The past does not have two amounts for each of its items.
    """

def fill_sums(m: Columns) -> None:
    """Fill the sums of logs: linear models need them. ``Columns.fill_logs`` must have run before.

    ``taste_prior`` is the sum of the lift and the item's click rate; ``category_rate`` is what was clicked
    of the category, less what was passed.
    """
