"""What people say about assets, and the datasets that are cut from it.

Arrives: asset stored, asset deleted, prediction made, drift detected, probe requested; answers, labels and requests for
dataset versions by gRPC and HTTP. Leaves: annotation confirmed, dataset version created, probe answered, probe ended,
and a Parquet manifest a version in the object store. Stored: annotations with their revisions, the queue of tasks,
datasets, versions and who asked for them, blind probes with their answers, and for a bounded time the assets and
predictions that tasks are drawn from.
"""
