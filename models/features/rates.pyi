"""Rates of new and rare items, compiled: against its category. ``item`` calls it."""
