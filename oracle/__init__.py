"""The expected values of `headrace verify`: everything that is kept, computed again from raw records.

This package imports no live code: an error in shared code would be on both sides, and no comparison would
show it. Constants that both sides need are therefore written twice. See docs/architecture.md.
"""
