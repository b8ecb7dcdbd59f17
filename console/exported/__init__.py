"""``headrace export``: examples and feature rows as Parquet files."""
