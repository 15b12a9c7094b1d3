"""The monitor's ears: the bus, gRPC, HTTP."""
