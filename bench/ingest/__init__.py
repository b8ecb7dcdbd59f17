"""The parts of `bench_ingest.py`, one concept per file. Kafka is started by ops/kafka/run.py."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
