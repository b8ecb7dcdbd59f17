"""The record-batch transport for Faust; usable alone. See docs/transport.md."""
