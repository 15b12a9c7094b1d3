"""Registry decides which version of a model may go live.

Arrives: finished runs with their evaluation report (Kafka), and people's promotions, rollbacks, approvals (gRPC, HTTP).
Leaves: `version judged`, `alias moved`, `aliases published` (the whole alias map of a model, compacted).
Stored: models, versions with the evidence they were judged by, aliases, approvals, and every move with who and why.
"""
