"""The dashboard: what is measured as figures, and its routes."""
