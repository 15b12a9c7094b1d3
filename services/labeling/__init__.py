"""What people say about assets, and the datasets that are cut from it.

Arrives: asset stored, asset deleted, prediction made, drift detected; answers, labels and requests for dataset
versions by gRPC and HTTP. Leaves: annotation confirmed, dataset version created, and a Parquet manifest a version in
the object store. Stored: annotations with their revisions, the queue of tasks, datasets, versions and who asked for
them, and for a bounded time the assets and predictions that tasks are drawn from.
"""
