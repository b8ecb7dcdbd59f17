"""Messages: types, decoding, ids, columns, event files. See docs/architecture.md."""
