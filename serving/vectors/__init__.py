"""Vectors of items and users by the towers in use, and how another version comes into use."""
