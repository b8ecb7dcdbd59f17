"""The command line, one file a command. See docs/architecture.md."""
