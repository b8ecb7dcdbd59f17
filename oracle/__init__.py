"""What `headrace verify` expects: computed anew from raw records, without the live code.

See docs/architecture.md.
"""
