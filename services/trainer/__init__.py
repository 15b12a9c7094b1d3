"""Trainer turns dataset versions into signed model packages, and judges them.

Arrives: `retrain requested`, `dataset version created` (Kafka); runs asked for by people (gRPC, HTTP).
Leaves: `run progressed`, `run waiting`, `run finished` (also failed), `evaluation finished`.
Stored: runs with their leases in the database; checkpoints in the run's folder; packages and weights in the object
store. torch is imported in the child process of a run alone, so that the service itself stays small.
"""
