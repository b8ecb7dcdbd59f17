"""Rates of new and rare items, compiled: against its category. ``item`` fills them with its other features."""
