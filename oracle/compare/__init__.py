"""Comparing the oracle with live values, feature by feature. Pure: no broker, no store, no clock.

A row that one side lacks counts as a row of zeros.
"""
