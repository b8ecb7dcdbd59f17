"""The state of one partition of an agent, changed by decoded records. Pure: no broker, no clock.

See docs/architecture.md.
"""
