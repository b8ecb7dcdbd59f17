from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

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

    Attributes
    ----------
    tells
        Whether the value can be told as JSON: texts, numbers and null, in records and unions of them.
    """

    tells: bool

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
    def tell(
        self,
        payload: bytes | bytearray,
        fields: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        start: int,
        key: str,
    ) -> tuple[bytes, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the values of records as JSON, one behind the other; the plan ``tells``, and is of a record.

        Each is what msgspec writes of the object that ``read`` returns. Also returned are their sizes, int64
        ``(n,)``, and which records have another key than the text of a field, bool ``(n,)``. A size of -1
        means that the record is left out: ``read`` may refuse it, its JSON needs escapes, or a header of it
        begins like one that says what the value is (``content-type``, ``ce_...``).

        Parameters
        ----------
        payload, fields
            As of a ``RecordList``.
        places
            Which of them, int64 ``(n,)``.
        start
            Where in a value the message begins.
        key
            The field. One without a text has every key.

        Raises
        ------
        ValueError
            The plan does not tell, or a place is outside of the payload.
        """
