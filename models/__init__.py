"""What is learned: features, embeddings, outcomes, state, learning. See docs/architecture.md."""
