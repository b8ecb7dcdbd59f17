"""Steps of an installation while its workers are stopped: a new version, more partitions."""
