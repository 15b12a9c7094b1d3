"""Serving: answers with the models that aliases point at, and predicts on what bound cameras sent.

Arrives: `aliases published`, `camera changed`, `asset stored`; calls of the Open Inference Protocol; bindings.
Leaves: `prediction made`, `deployment changed`; answers.
Stored: bindings (SQLite). Models lie in the object store; what is loaded follows registry's aliases.
"""
