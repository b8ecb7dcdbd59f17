"""Checks for callers of the request topic: ``headrace conformance``."""
