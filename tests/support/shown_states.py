"""State of what users were shown, for tests of their partitions."""

from headrace.models.state import shown
from headrace.streams.tables.partition import StatePartition


def shown_state(number: int = 0) -> StatePartition:
    """Return a new partition of its state store."""
    return StatePartition(number, shown.new_table(), order=shown.ORDER)
