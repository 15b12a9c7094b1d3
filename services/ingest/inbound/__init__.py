"""The roads in: Kafka, HTTP and gRPC; each decodes, calls a handler and encodes."""
