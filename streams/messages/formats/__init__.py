"""Events of others: CloudEvents, Avro, Protobuf, and JSON that a mapping file turns into ours."""
