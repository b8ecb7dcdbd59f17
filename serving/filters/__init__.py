"""What must not be shown, one file a rule. See docs/parts.md."""
