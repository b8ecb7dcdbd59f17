"""Online model, ranker, training, artefacts, the example log. See docs/architecture.md."""
