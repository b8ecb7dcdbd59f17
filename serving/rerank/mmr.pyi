import numpy as np
import numpy.typing as npt

class Mmr:
    """The penalty is the similarity to the closest item on the list, times the strength.

    Parameters
    ----------
    vectors
        Of the candidates; unit vectors (zeros: no content), float32 ``(w, DIM)``.
    strength
        Weight of similarity against relevance, 0..1.

    Attributes
    ----------
    penalty
        Float32 ``(w,)``; see ``Diversifier``. To be read only.
    """

    penalty: npt.NDArray[np.float32]

    def __init__(self, vectors: npt.NDArray[np.float32], strength: float) -> None: ...
    def put(self, vector: npt.NDArray[np.float32]) -> None:
        """Note that an item with this vector ``(DIM,)`` is on the list."""
