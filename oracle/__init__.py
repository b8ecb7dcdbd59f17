"""What `headrace verify` expects: every windowed feature computed again from raw records.

Nothing here imports live code: two computations are compared, and a shared fault would be found by neither.
Constants both sides need are therefore written twice. See docs/architecture.md.
"""
