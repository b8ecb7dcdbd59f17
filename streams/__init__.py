"""Data in motion: messages, topics, the record-batch transport, state stores, windows.

See docs/architecture.md.
"""
