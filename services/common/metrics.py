"""Every Prometheus metric of every service, declared once; the dashboards are tested against this file.

Names are `irisloop_<service>_<noun>_<unit>`; what the kit itself measures is `irisloop_common_...`. Labels are bounded:
their possible values are listed beside them, and never an id of a frame, an asset, a person or a camera. Each service
has its own section; append there.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; from one millisecond to ten seconds."""

# ---- common: database, outbox, servers -----------------------------------------------------------------------------

OUTBOX_ROWS: Final = Gauge("irisloop_common_outbox_rows", "Events committed and not yet acknowledged by the broker.")
OUTBOX_AGE: Final = Gauge("irisloop_common_outbox_oldest_seconds", "Age of the oldest event that waits for the broker.")
OUTBOX_PUBLISHED: Final = Counter(
    "irisloop_common_outbox_published_total", "Events taken from the outbox by the broker."
)
OUTBOX_FAILURES: Final = Counter("irisloop_common_outbox_failures_total", "Attempts to publish a batch that failed.")
OUTBOX_DELAY: Final = Histogram(
    "irisloop_common_outbox_delay_seconds",
    "From the enqueueing of a batch's oldest event to the broker's acknowledgement.",
    buckets=LATENCY_BUCKETS,
)
INBOX_REPEATS: Final = Counter(
    "irisloop_common_inbox_repeats_total",
    "Redelivered events that the inbox dropped; handler: one of topics.yaml.",
    ["handler"],
)
DATABASE_SECONDS: Final = Histogram(
    "irisloop_common_database_seconds",
    "Time in the database, waiting for the thread included; kind: read, write.",
    ["kind"],
    buckets=LATENCY_BUCKETS,
)
OBJECT_BYTES: Final = Counter(
    "irisloop_common_object_bytes_total", "Bytes moved to and from the object store; kind: put, get.", ["kind"]
)
GRPC_SECONDS: Final = Histogram(
    "irisloop_common_grpc_seconds",
    "Time to answer a call; method: one of the contracts', code: a gRPC status.",
    ["method", "code"],
    buckets=LATENCY_BUCKETS,
)
HTTP_SECONDS: Final = Histogram(
    "irisloop_common_http_seconds",
    "Time to answer a request; route: a template such as /api/v1/assets/{id}, status: 2xx, 3xx, 4xx, 5xx.",
    ["route", "status"],
    buckets=LATENCY_BUCKETS,
)
READY: Final = Gauge("irisloop_common_ready_state", "1 while the service is ready, else 0.")

# ---- bus -----------------------------------------------------------------------------------------------------------

BUS_RECORDS: Final = Counter(
    "irisloop_common_bus_records_total", "Records taken to their effect; handler: one of topics.yaml.", ["handler"]
)
BUS_PUBLISHED: Final = Counter("irisloop_common_bus_published_total", "Events that the broker acknowledged.")
BUS_BATCH_SECONDS: Final = Histogram(
    "irisloop_common_bus_batch_seconds",
    "Time a handler took for a batch; handler: one of topics.yaml.",
    ["handler"],
    buckets=LATENCY_BUCKETS,
)
BUS_RETRIES: Final = Counter(
    "irisloop_common_bus_retries_total", "Batches to be tried once more; handler: one of topics.yaml.", ["handler"]
)
BUS_DEAD_LETTERS: Final = Counter(
    "irisloop_common_bus_dead_letters_total", "Records kept as dead letters; handler: one of topics.yaml.", ["handler"]
)
BUS_TRANSACTIONS: Final = Counter(
    "irisloop_common_bus_transactions_total",
    "Steps of streams; handler: one of topics.yaml, outcome: committed, undone, fenced.",
    ["handler", "outcome"],
)
BUS_RENEWALS: Final = Counter(
    "irisloop_common_bus_renewals_total",
    "Clients built anew after an error that would not have passed; kind: shared, every-instance, stream, producer.",
    ["kind"],
)
BUS_NOISE: Final = Counter(
    "irisloop_common_bus_noise_total",
    "Lines of the Kafka client that say nothing new and are left out; kind: txn-retry, coordinator, connection.",
    ["kind"],
)
BUS_LAG: Final = Gauge(
    "irisloop_common_bus_lag_records",
    "Records a handler has not handled yet; handler: one of topics.yaml.",
    ["handler"],
)
BUS_LOST: Final = Counter(
    "irisloop_common_bus_lost_total",
    "Offsets that retention removed before a handler reached them; handler: one of topics.yaml.",
    ["handler"],
)
BUS_REFUSED: Final = Gauge(
    "irisloop_common_bus_refused_records",
    "Offsets that retention removed and that a handler refuses to pass over; handler: one of topics.yaml.",
    ["handler"],
)
BUS_BACKLOG_SHARE: Final = Gauge(
    "irisloop_common_bus_backlog_share",
    "How much of what its topic keeps a handler has still to handle, by age or size; an alarm above 0.5.",
    ["handler"],
)

# ---- ingest --------------------------------------------------------------------------------------------------------

INGEST_FRAMES: Final = Counter(
    "irisloop_ingest_frames_total", "Frames handled; status: stored, duplicate, redelivered, rejected.", ["status"]
)
INGEST_REJECTIONS: Final = Counter(
    "irisloop_ingest_rejections_total",
    "Frames refused by a rule; reason: EMPTY, NOT_AN_IMAGE, TRUNCATED, TOO_LARGE, TOO_MANY_PIXELS, TOO_SMALL, CLOCK.",
    ["reason"],
)
INGEST_BYTES: Final = Counter("irisloop_ingest_frame_bytes_total", "Bytes of the frames handled.")
INGEST_BATCH: Final = Histogram(
    "irisloop_ingest_batch_frames", "Frames handled together.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)

# ---- labeling ------------------------------------------------------------------------------------------------------

LABELING_ANNOTATIONS: Final = Counter(
    "irisloop_labeling_annotations_total",
    "Labels taken; source: import, task, direct; result: created, unchanged, withdrawn.",
    ["source", "result"],
)
LABELING_ANSWERS: Final = Counter(
    "irisloop_labeling_answers_total",
    "Answers to tasks; result: confirmed, corrected, skipped, again (an old asset's).",
    ["result"],
)
LABELING_DRAWN: Final = Counter(
    "irisloop_labeling_tasks_drawn_total",
    "Tasks drawn; origin: uniform, uncertainty, drift, request, probe.",
    ["origin"],
)
LABELING_CLOSED: Final = Counter(
    "irisloop_labeling_tasks_closed_total",
    "Tasks closed unanswered; reason: crowded_out, incident_over, served, cancelled, probe_over.",
    ["reason"],
)
LABELING_TASKS: Final = Gauge(
    "irisloop_labeling_tasks_count", "Tasks; state: open, leased, done, skipped, closed.", ["state"]
)
LABELING_REQUESTS: Final = Gauge("irisloop_labeling_requests_count", "Dataset versions that wait for labels.")
LABELING_SUPERSEDED: Final = Counter(
    "irisloop_labeling_superseded_total", "Labels laid aside because their class has another meaning now."
)
LABELING_CUT_SECONDS: Final = Histogram(
    "irisloop_labeling_cut_seconds",
    "Time to cut a dataset version.",
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)

# ---- trainer -------------------------------------------------------------------------------------------------------

TRAINER_RUNS: Final = Counter(
    "irisloop_trainer_runs_total", "Runs that ended; state: succeeded, failed, cancelled.", ["state"]
)
TRAINER_WAITING: Final = Gauge("irisloop_trainer_waiting_runs_count", "Runs that wait for labels.")
TRAINER_EPOCH_SECONDS: Final = Histogram(
    "irisloop_trainer_epoch_seconds", "Time of an epoch.", buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 60, 300, 1800)
)

# ---- registry ------------------------------------------------------------------------------------------------------

REGISTRY_VERSIONS: Final = Counter(
    "irisloop_registry_versions_total",
    "Judgements of versions; state: accepted, refused, awaiting_approval.",
    ["state"],
)
REGISTRY_MOVES: Final = Counter(
    "irisloop_registry_alias_moves_total",
    "Aliases moved; alias: champion, challenger, shadow, previous, rollout, other.",
    ["alias"],
)

# ---- serving -------------------------------------------------------------------------------------------------------

SERVING_PREDICTIONS: Final = Counter(
    "irisloop_serving_predictions_total",
    "Prediction events made; role: champion, challenger, shadow, previous, direct, other.",
    ["role"],
)
SERVING_ERRORS: Final = Counter(
    "irisloop_serving_errors_total", "Assets of bound cameras whose prediction is an error, which the event names."
)
SERVING_REPEATS: Final = Counter(
    "irisloop_serving_repeats_total", "Predictions not made since they were made before: their asset came again."
)
SERVING_DIRECT_DROPPED: Final = Counter(
    "irisloop_serving_direct_dropped_total",
    "Clients' predictions that became no events: buffer or spool full, disk failed, or the process before was killed.",
)
SERVING_INPUTS_SAMPLED: Final = Counter(
    "irisloop_serving_inputs_sampled_total", "Inputs of clients' calls that went to ingest."
)
SERVING_INPUTS_MISSED: Final = Counter(
    "irisloop_serving_inputs_missed_total",
    "Inputs that were chosen and did not go; reason: not_an_image, in_shared_memory, decoupled, no_memory, too_large, "
    "no_disk (their spool was full, or the disk failed), refused.",
    ["reason"],
)
SERVING_OFFERED: Final = Counter(
    "irisloop_serving_comparisons_offered_total", "Answers that a rollout wants compared with another version's."
)
SERVING_COMPARED: Final = Counter(
    "irisloop_serving_comparisons_made_total", "Those that were compared; the others were dropped, there being no room."
)
SERVING_CHILD_RESTARTS: Final = Counter(
    "irisloop_serving_child_restarts_total",
    "Times that a process beside serving had to be started anew; process: publisher, shadow.",
    ["process"],
)
SERVING_UNREAD: Final = Gauge(
    "irisloop_serving_unread_bytes",
    "Bytes of answers that wait for their readers, of the large ones where the transport is grpcio.",
)
SERVING_SPOOL_BYTES: Final = Gauge(
    "irisloop_serving_spool_bytes", "Clients' predictions on disk that Kafka has not taken yet."
)
SERVING_BATCH: Final = Histogram(
    "irisloop_serving_batch_images", "Images in one run of a graph.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
SERVING_COMPUTE_SECONDS: Final = Histogram(
    "irisloop_serving_compute_seconds", "One run of a graph.", buckets=LATENCY_BUCKETS
)
SERVING_LOAD_SECONDS: Final = Histogram(
    "irisloop_serving_load_seconds", "Loading and warming up one version.", buckets=LATENCY_BUCKETS
)
SERVING_VERSIONS: Final = Gauge("irisloop_serving_versions_count", "Model versions loaded.")

# ---- monitor -------------------------------------------------------------------------------------------------------

MONITOR_INPUTS: Final = Counter("irisloop_monitor_inputs_total", "Records that the judge has taken.")
MONITOR_LATE: Final = Counter(
    "irisloop_monitor_late_total", "Records that came after their turn and were judged at once."
)
MONITOR_FINDINGS: Final = Counter(
    "irisloop_monitor_findings_total",
    "What the judge said; kind: DriftFound, Alert, Assessed, Request, Refusal, Judged.",
    ["kind"],
)
MONITOR_STEP_SECONDS: Final = Histogram(
    "irisloop_monitor_step_seconds", "Time to judge a batch.", buckets=LATENCY_BUCKETS
)
MONITOR_OPEN_INCIDENTS: Final = Gauge(
    "irisloop_monitor_open_incidents_count", "Incidents that are not over; harm: none, unknown, crossed.", ["harm"]
)
MONITOR_SILENT_CAMERAS: Final = Gauge(
    "irisloop_monitor_silent_cameras_count",
    "Watched cameras without a frame for a minute, and for a hundred times their usual gap, of event time.",
)
MONITOR_CHALLENGER_PAIRS: Final = Gauge(
    "irisloop_monitor_challenger_pairs", "Pairs of answers behind the newest judgement of a challenger.", ["model"]
)
MONITOR_CHALLENGER_E_VALUE: Final = Gauge(
    "irisloop_monitor_challenger_e_value",
    "E-value in the newest judgement; test: worse, better, not_worse, errors, disagreement, latency.",
    ["model", "test"],
)
MONITOR_NOTICES: Final = Counter(
    "irisloop_monitor_notices_total",
    "Alerts that a target was to be told of: sent, refused by it for good, or over before it could be told.",
    ["target", "outcome"],
)
MONITOR_SNAPSHOT_BYTES: Final = Gauge("irisloop_monitor_snapshot_bytes", "Size of the pieces of state last written.")
MONITOR_ROWS: Final = Counter(
    "irisloop_monitor_rows_total",
    "Rows written to ClickHouse; table: predictions, annotations, drifts, rejections, decisions, alerts.",
    ["table"],
)
MONITOR_ROWS_TRIMMED: Final = Counter(
    "irisloop_monitor_rows_trimmed_total",
    "Rows read again and left out, being in ClickHouse already; table: as above.",
    ["table"],
)
MONITOR_INSERT_SECONDS: Final = Histogram(
    "irisloop_monitor_insert_seconds", "Time of an insert into ClickHouse.", buckets=LATENCY_BUCKETS
)
MONITOR_SQL_SECONDS: Final = Histogram(
    "irisloop_monitor_sql_seconds",
    "Time of a query by ClickHouse's protocol, with its wait; outcome: answered, failed (also refused).",
    ["outcome"],
    buckets=LATENCY_BUCKETS,
)
