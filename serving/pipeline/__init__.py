"""From a request to candidates: sources, merge, filters, rests. See docs/parts.md."""
