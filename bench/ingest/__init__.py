"""Parts of ``bench_ingest.py``: events, what is measured, the peers, freshness, recovery."""
