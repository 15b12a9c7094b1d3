"""The roads out of serving: onnxruntime, the object store, the database, topics."""
