# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Inner loops of user and item state, compiled."""


def layout_check() -> int:
    """Return the size of a pointer."""
    return sizeof(void *)
