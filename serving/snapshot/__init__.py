"""The catalogue in files that every process of a machine maps. See docs/architecture.md."""
