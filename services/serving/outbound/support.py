"""What of a model configuration is served: each field that is not, by name, as a reason to refuse or as a warning.

A warning says that answers stay the same; a refusal, that they would not. Fields that are not named here are served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from inference.model_config_pb2 import ModelConfig, ModelInstanceGroup

GREEDY: Final = "batching is greedy: a batch is what waits, and nothing waits for a batch"
NO_GPU: Final = "runs on the CPU: onnxruntime has no GPU provider here"
BACKENDS: Final = ("onnxruntime", "python", "remote", "ensemble")
ELSEWHERE: Final = {
    "tensorrt": 'export the model as ONNX and set backend: "onnxruntime"',
    "tensorrt_plan": 'export the model as ONNX and set backend: "onnxruntime"',
    "pytorch": 'export it with torch.onnx.export and set backend: "onnxruntime"',
    "tensorflow": 'convert it with tf2onnx and set backend: "onnxruntime"',
    "openvino": 'export the model as ONNX and set backend: "onnxruntime"',
    "dali": "put decoding and normalisation into the graph, or let the model take image bytes",
    "fil": 'convert it with onnxmltools and set backend: "onnxruntime"',
}
KEEP: Final = 'leave it on Triton and name that server with backend: "remote"'
ONNX_PARAMETERS: Final = (
    *("intra_op_thread_count", "inter_op_thread_count", "execution_mode", "enable_mem_arena", "enable_mem_pattern"),
    "memory.enable_memory_arena_shrinkage",
)
CUDA_PARAMETERS: Final = (
    *("cudnn_conv_algo_search", "gpu_mem_limit", "arena_extend_strategy", "do_copy_in_default_stream"),
)
SESSION: Final = ("session.", "optimization.", "ep.", "memory.")
"""What onnxruntime's session configuration entries begin with."""
MOST_SENTENCES: Final = 50
LONGEST_SENTENCE: Final = 400
MOST_CHARACTERS: Final = 8_000
"""Of all sentences."""
TRITON_ONLY: Final = "TRITON_BATCH_STRATEGY_PATH"


@dataclass(frozen=True, slots=True)
class Review:
    """What a person should know before a model is served."""

    refusals: tuple[str, ...] = ()
    """Each names a field and says what to do; the model is served when there is none."""
    warnings: tuple[str, ...] = ()


def review(message: ModelConfig) -> Review:
    """Look at every field; `backend` must be filled in."""
    refusals = tuple(sentence for rule in REFUSED for sentence in rule(message))
    warnings = tuple(sentence for rule in WARNED for sentence in rule(message))
    return Review(_bounded(refusals), _bounded(warnings))


def _bounded(sentences: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, and no more than a person reads: a configuration may quote names of any length."""
    once = tuple(dict.fromkeys(_shortened(sentence) for sentence in sentences))
    lengths = accumulate(map(len, once))
    kept = once[: min(MOST_SENTENCES, sum(length <= MOST_CHARACTERS for length in lengths))]
    return (*kept, f"and {len(once) - len(kept)} more") if len(kept) < len(once) else once


def _shortened(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST_SENTENCE else f"{sentence[:LONGEST_SENTENCE]}..."


def backend_refusal(backend: str) -> str:
    """Why a backend is not served, and what to do."""
    return f"backend {backend[:80]!r} is not served here: {ELSEWHERE.get(backend, KEEP)}"


Rule = Callable[[ModelConfig], Iterator[str]]


def _backend(message: ModelConfig) -> Iterator[str]:
    backend = "ensemble" if message.platform == "ensemble" else message.backend
    if backend not in BACKENDS:
        yield backend_refusal(backend)


def _tensors(message: ModelConfig) -> Iterator[str]:
    for tensor in message.input:
        if tensor.allow_ragged_batch:
            yield f"input {tensor.name!r} allow_ragged_batch is not served: pad the rows to one shape"
    for name in ("batch_input", "batch_output"):
        if getattr(message, name):
            yield f"{name} is not served: it belongs to ragged batches"


def _sequence(message: ModelConfig) -> Iterator[str]:
    batching = message.sequence_batching
    if batching.state:
        names = ", ".join(repr(state.input_name) for state in batching.state)
        yield f"sequence_batching.state ({names}) is not served: implicit state; let the client carry it as a tensor"
    if batching.iterative_sequence:
        yield "sequence_batching.iterative_sequence is not served"


def _operations(message: ModelConfig) -> Iterator[str]:
    if message.model_operations.op_library_filename:
        yield "model_operations.op_library_filename is not served: native code is not loaded into this process"
    if message.model_repository_agents.agents:
        names = ", ".join(repr(agent.name) for agent in message.model_repository_agents.agents)
        yield f"model_repository_agents ({names}) is not served: store the model as the agent would leave it"
    if TRITON_ONLY in message.parameters:
        yield f"parameters {TRITON_ONLY!r} is not served: batches are formed greedily"
    if any(step.model_namespace for step in message.ensemble_scheduling.step):
        yield "ensemble_scheduling.step.model_namespace is not served: one repository, one namespace"


def _instances(message: ModelConfig) -> Iterator[str]:
    for group in message.instance_group:
        if group.kind == ModelInstanceGroup.KIND_GPU:
            yield f"instance_group.kind KIND_GPU {NO_GPU}"
        elif group.gpus:
            yield f"instance_group.gpus {NO_GPU}"
        for name in ("rate_limiter", "host_policy", "secondary_devices", "profile"):
            value = getattr(group, name)
            if group.HasField("rate_limiter") if name == "rate_limiter" else value:
                yield f"instance_group.{name} has no effect"
        if group.passive:
            yield "instance_group.passive: these instances take no requests and are left out"


def _scheduling(message: ModelConfig) -> Iterator[str]:
    sequence = message.sequence_batching
    delays = {
        "dynamic_batching": message.dynamic_batching.max_queue_delay_microseconds,
        "sequence_batching.direct": sequence.direct.max_queue_delay_microseconds,
        "sequence_batching.oldest": sequence.oldest.max_queue_delay_microseconds,
    }
    for name, delay in delays.items():
        if delay:
            yield f"{name}.max_queue_delay_microseconds has no effect: {GREEDY}"
    if sequence.direct.minimum_slot_utilization:
        yield f"sequence_batching.direct.minimum_slot_utilization has no effect: {GREEDY}"
    if sequence.oldest.preserve_ordering:
        yield "sequence_batching.oldest.preserve_ordering has no effect: the answers of one sequence come in order"
    if message.ensemble_scheduling.max_inflight_requests:
        yield "ensemble_scheduling.max_inflight_requests has no effect: the queues of the steps are bounded"
    if message.response_cache.enable:
        yield "response_cache has no effect: an answer from a cache would be an event that never was"


def _optimization(message: ModelConfig) -> Iterator[str]:
    policy = message.optimization
    if policy.priority:
        yield "optimization.priority has no effect: models share the machine fairly"
    if policy.HasField("cuda"):
        yield "optimization.cuda has no effect without a GPU"
    for accelerator in policy.execution_accelerators.gpu_execution_accelerator:
        yield f"optimization.execution_accelerators {accelerator.name!r} has no effect without a GPU"
    for accelerator in policy.execution_accelerators.cpu_execution_accelerator:
        yield f"optimization.execution_accelerators {accelerator.name!r} has no effect: its own CPU provider runs"
    for name in ("gather_kernel_buffer_threshold", "eager_batching"):
        if getattr(policy, name):
            yield f"optimization.{name} has no effect"


def _rest(message: ModelConfig) -> Iterator[str]:
    if message.cc_model_filenames:
        yield "cc_model_filenames has no effect without a GPU: default_model_filename is served"
    if message.metric_tags:
        yield "metric_tags has no effect"
    if message.HasField("model_metrics"):
        yield "model_metrics has no effect: histograms have Irisloop's buckets"
    if message.runtime:
        yield "runtime has no effect: the backend is part of this process"


def _parameters(message: ModelConfig) -> Iterator[str]:
    if message.backend != "onnxruntime":
        return
    for name in sorted(message.parameters):
        if name in CUDA_PARAMETERS:
            yield f"parameters {name!r} has no effect without a GPU"
        elif name not in ONNX_PARAMETERS and not name.startswith(SESSION) and name != TRITON_ONLY:
            yield f"parameters {name[:80]!r} is not known and has no effect"


REFUSED: Final[tuple[Rule, ...]] = (_backend, _tensors, _sequence, _operations)
WARNED: Final[tuple[Rule, ...]] = (_instances, _scheduling, _optimization, _rest, _parameters)
