"""Monitor: hears every prediction and every label, judges whether the world has moved and whether it hurts.

Arrives: prediction made, annotation confirmed, run finished, version judged, deployment changed, aliases published,
retrain answered, probe answered, probe ended; for analytics also frame rejected and its own words. Leaves: drift
detected, alert raised, retrain requested, retrain declined, retrain answered (what a person said), probe requested,
challenger judged. Stored: the judge's state in `snapshot taken`, in the transaction of what it says; rows of everything
in ClickHouse (role `analytics`).
"""
