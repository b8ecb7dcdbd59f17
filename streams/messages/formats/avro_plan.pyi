from collections.abc import Iterable
from typing import Any

class Plan:
    """How a value is read.

    Parameters
    ----------
    kind
        A type of Avro.
    parts
        Plans of the fields, of the branches, or of the items.
    names
        Names of the fields, or symbols; a field without a name (None) is read and left out.
    size
        Bytes of a fixed value.
    """

    def __init__(
        self, kind: str, parts: Iterable[Plan] = (), names: Iterable[str | None] = (), size: int = 0
    ) -> None: ...
    def read(self, body: bytes, start: int) -> Any:
        """Return the value in ``body`` from ``start`` on; it must end there.

        Raises
        ------
        ValueError
            It is no such value.
        """
