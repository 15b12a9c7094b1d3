"""Registry decides which version of a model may go live.

Arrives: finished runs with their evaluation report, judgements of challengers and what could not be loaded (Kafka), and
people's promotions, rollbacks, rollouts, approvals (gRPC, HTTP).
Leaves: `version judged`, `alias moved`, `aliases published` (the alias map of a model and its rollout, compacted).
Stored: models, versions with the evidence they were judged by, aliases, rollouts, approvals, and every move with who
and why.
"""
