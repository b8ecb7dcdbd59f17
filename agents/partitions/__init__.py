"""What an agent knows of one partition: decisions on decoded records. Pure: no broker, no clock.

See docs/architecture.md.
"""
