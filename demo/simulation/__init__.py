"""A simulated catalogue and audience: pure and seeded, nothing is sent from here."""
