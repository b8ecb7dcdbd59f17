"""What users, items, lists and events take: rows in memory, in Redis and in Kafka, and CPU of every role."""
