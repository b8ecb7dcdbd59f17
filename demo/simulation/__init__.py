"""A simulated catalogue and audience: pure and seeded; sends nothing."""
