"""The agents, one file each, and what they share (`stage`). See docs/architecture.md."""
