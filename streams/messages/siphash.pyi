import numpy as np
import numpy.typing as npt

def id_of_text(text: str, k0: int, k1: int) -> int:
    """Return the 64-bit id of a text under the key ``k0, k1``: 0 for the empty one, never 0 for another."""

def ids_of_texts(texts: list[str], k0: int, k1: int) -> npt.NDArray[np.uint64]:
    """Return the ids of texts, uint64 ``(n,)``."""
