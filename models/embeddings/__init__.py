"""Vectors of items and users: from content, and learnt from clicks. See docs/architecture.md, "Vectors"."""

from headrace.models.embeddings.content import category_vector, item_vector, unit
from headrace.models.embeddings.directions import DIM

__all__ = ["DIM", "category_vector", "item_vector", "unit"]
