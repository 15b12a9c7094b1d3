"""What a model wants of its server, in serving's own words; Triton's config.pbtxt and MLServer's settings become this.

Fields are named as in Triton's model configuration, where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, Literal

NO_PRIORITY: Final = 0


@dataclass(frozen=True, slots=True)
class TensorConfig:
    """An input or output as clients see it."""

    name: str
    datatype: str
    """The protocol's name, e.g. FP32."""
    dims: tuple[int, ...]
    """Without the batch dimension; -1 stands for any size."""
    reshape: tuple[int, ...] | None = None
    """What the graph sees instead of `dims`, without the batch dimension; None: the same."""
    optional: bool = False
    labels: tuple[str, ...] = ()
    """Of an output: the names of its classes, by index."""
    format: Literal["", "NCHW", "NHWC"] = ""
    """Of an input that is an image: how it is laid out."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """What happens to requests that wait."""

    max_queue_size: int = 0
    """Requests; 0: the server's own bound."""
    default_timeout_us: int = 0
    """0: for ever."""
    allow_timeout_override: bool = False
    delay: bool = False
    """A request past its timeout runs after all others instead of being refused."""


@dataclass(frozen=True, slots=True)
class DynamicBatching:
    """How requests become batches."""

    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    """Kept to be shown; batching here is greedy and never waits."""
    preserve_ordering: bool = False
    priority_levels: int = 0
    """1 is served first; 0: no priorities."""
    default_priority_level: int = 0
    default_policy: QueuePolicy = QueuePolicy()
    priority_policies: Mapping[int, QueuePolicy] = field(default_factory=dict)

    def policy(self, priority: int) -> QueuePolicy:
        """The policy of a level."""
        return self.priority_policies.get(priority, self.default_policy)

    def longest_wait_us(self) -> int:
        """After which a call of any priority is refused; 0: some wait for ever."""
        policies = [self.default_policy, *self.priority_policies.values()]
        waits = [0 if policy.delay else policy.default_timeout_us for policy in policies]
        return max(waits) if all(waits) else 0


class ControlKind(Enum):
    """What a control input tells the graph."""

    START = "start"
    END = "end"
    READY = "ready"
    CORRID = "corrid"


@dataclass(frozen=True, slots=True)
class Control:
    """An input that the scheduler fills, one value a row: no client sends it."""

    name: str
    kind: ControlKind
    datatype: str
    """FP32, INT32 or BOOL; for CORRID also UINT64, INT64, UINT32, INT32 or BYTES."""
    false_true: tuple[float, float] = (0.0, 1.0)
    """Unused for CORRID."""


@dataclass(frozen=True, slots=True)
class SequenceBatching:
    """Requests of one sequence run in order; `direct`: each keeps a slot, `oldest`: the oldest run together."""

    strategy: Literal["direct", "oldest"] = "direct"
    max_sequence_idle_us: int = 1_000_000
    controls: Sequence[Control] = ()
    max_candidate_sequences: int = 0
    """Of `oldest`: sequences in hand at one time."""
    preferred_batch_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EnsembleStep:
    """One model of an ensemble; maps go from the model's tensor name to the ensemble's."""

    model: str
    version: str
    """ "" for the one that answers by default."""
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """How one input of a warm-up request is filled."""

    datatype: str
    dims: tuple[int, ...]
    source: Literal["zero", "random", "file"]
    data: bytes = b""
    """The file's content, raw."""


@dataclass(frozen=True, slots=True)
class Warmup:
    """Requests that are run before a version answers."""

    name: str
    batch_size: int
    """0: the inputs carry no batch dimension."""
    count: int
    inputs: Mapping[str, WarmupInput]


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of the version folders are served."""

    kind: Literal["latest", "all", "specific"] = "latest"
    latest: int = 1
    specific: tuple[int, ...] = ()

    def chosen(self, present: Sequence[int]) -> list[int]:
        """The versions to serve, ascending."""
        if self.kind == "all":
            return sorted(present)
        if self.kind == "specific":
            return sorted(set(present) & set(self.specific))
        return sorted(present)[-self.latest :]


Backend = Literal["onnxruntime", "python", "remote", "ensemble"]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model, complete: every input and output is known."""

    name: str
    backend: Backend
    max_batch_size: int
    """0: the tensors carry no batch dimension."""
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    platform: str = "onnxruntime_onnx"
    filename: str = "model.onnx"
    version_policy: VersionPolicy = VersionPolicy()
    dynamic_batching: DynamicBatching | None = None
    """None: requests run one by one, each as its own batch."""
    sequence_batching: SequenceBatching | None = None
    ensemble: tuple[EnsembleStep, ...] = ()
    decoupled: bool = False
    """A request may have any number of answers."""
    instances: int = 1
    """How many batches may run at one time."""
    graph_level: int | None = None
    """optimization.graph.level: -1 basic, 1 extended, 2 disabled, else all."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """As they stand in config.pbtxt: onnxruntime's threads and memory, a remote's address, ..."""
    warmups: tuple[Warmup, ...] = ()
    serialized: bytes = b""
    """`inference.ModelConfig`, complete, as ModelConfig answers it."""
    warnings: tuple[str, ...] = ()
    """What is accepted and has no effect here, in sentences."""

    def input(self, name: str) -> TensorConfig | None:
        """The input of that name."""
        return next((tensor for tensor in self.inputs if tensor.name == name), None)

    def output(self, name: str) -> TensorConfig | None:
        """The output of that name."""
        return next((tensor for tensor in self.outputs if tensor.name == name), None)

    def described(self, serialized: bytes) -> ModelConfig:
        """The same with what ModelConfig answers."""
        return replace(self, serialized=serialized)
