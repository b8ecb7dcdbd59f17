"""Rules that a candidate must pass to be shown, one file a rule. See docs/architecture.md."""
