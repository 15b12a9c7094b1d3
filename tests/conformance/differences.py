"""Every case in which Irisloop may answer otherwise than Triton 2.51, with the reason.

The tests fail on a difference that is not here and on an entry that no case needs any more;
`docs/reference/serving-compatibility.md` is written from this table by `python -m tools.serving_compatibility`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs in some cases, and why it stays so."""

    title: str
    """What a request does."""
    triton: str
    """How Triton answers, in a few words."""
    irisloop: str
    """How Irisloop answers."""
    reason: str
    cases: tuple[str, ...]
    """Names, or patterns of the shell."""

    def covers(self, name: str) -> bool:
        """Whether the case of that name is meant."""
        return any(fnmatchcase(name, pattern) for pattern in self.cases)


WRONG_JSON: Final = Difference(
    title="JSON that cannot be parsed, or has a field of a wrong type",
    triton="500",
    irisloop="400",
    reason="The request is at fault, not the server; clients that retry on 5xx would retry for ever.",
    cases=(
        *("http/index, bad JSON", "http/JSON/cut off", "http/JSON/an array"),
        *("http/JSON/no inputs", "http/JSON/inputs null", "http/JSON/inputs an object"),
        *("http/JSON/outputs an object", "http/JSON/output without a name", "http/JSON/id a number"),
        *("http/inputs/no name", "http/inputs/no datatype", "http/inputs/no shape", "http/inputs/name a number"),
        *("http/shape/a string", "http/shape/of *", "http/shape/negative"),
        *("http/data/too *", "http/data/strings *", "http/data/floats *", "http/data/null", "http/data/booleans *"),
        *("http/nonfinite/data written nan", 'http/nonfinite/data written "NaN"', "http/nonfinite/data written *1e999"),
        *("http/data/a number", "http/strings/numbers", "http/parameter/* as *", "http/parameter/* below zero"),
        *("http/parameter/not an object", "http/binary/size below zero", "http/binary/size as text"),
        *(
            "http/binary/header too small",
            "http/binary/header 1e9",
            "http/classification/below zero",
            "http/classification/as text",
        ),
        *("memory/infer over HTTP/* as *", "memory/infer over HTTP/offset below zero"),
        *("memory/register over HTTP/size *", "memory/register over HTTP/bad JSON"),
        "http/compression/of an error",
        *("control/HTTP load, bad JSON", "control/HTTP load, configuration is an object"),
        *("control/HTTP load, unknown parameter", "trace/HTTP rate as a number", "trace/HTTP bad JSON"),
        *("log/HTTP verbose below zero", "log/HTTP information as text", "log/HTTP without a body"),
    ),
)
MALFORMED: Final = Difference(
    title="Bytes that are no message of the protocol",
    triton="INTERNAL `Unable to parse request`; in a stream no answer and OK",
    irisloop="INVALID_ARGUMENT",
    reason="The request is at fault, not the server.",
    cases=("grpc/wire/malformed *", "grpc/wire/cut off", "stream/malformed"),
)
READINESS: Final = Difference(
    title="Readiness of the server while a model could not be loaded",
    triton="not ready",
    irisloop="ready; strict readiness is a setting",
    reason="One broken model must not take the others out of a load balancer.",
    cases=("grpc/ServerReady/with a broken model", "http/GET /v2/health/ready"),
)
REGIONS: Final = Difference(
    title="Shared memory that cannot be opened, or is too small for an output",
    triton="INTERNAL, 500",
    irisloop="INVALID_ARGUMENT, 400",
    reason="The request is at fault, not the server.",
    cases=(
        *("memory/register/unknown key", "memory/register/no key", "memory/register/key that climbs"),
        *("memory/register/key that is reserved", "memory/register over HTTP/unknown key"),
        *("memory/infer/into too little of the region", "memory/infer over HTTP/into too little of the region"),
    ),
)
UNCHECKED: Final = Difference(
    title="A shape that overflows; only the optional input of a model sent",
    triton="INTERNAL, from the model",
    irisloop="INVALID_ARGUMENT, from the checks before it",
    reason="The request is at fault; Triton's checks let it through.",
    cases=("grpc/shape/overflowing", "grpc/inputs/only the optional one"),
)
DIES: Final = Difference(
    title="Classification of an output of strings",
    triton="the server process aborts",
    irisloop="INVALID_ARGUMENT",
    reason="Strings have no order of scores.",
    cases=("grpc/classification/of strings",),
)
EXTENSIONS: Final = Difference(
    title="Extensions that the server names",
    triton="13, CUDA shared memory among them",
    irisloop="Triton's but for CUDA shared memory, and its own, which begin with `irisloop_`",
    reason="Irisloop computes on CPUs, and takes images and makes events beside.",
    cases=("grpc/ServerMetadata", "http/GET /v2"),
)
CUDA: Final = Difference(
    title="CUDA shared memory",
    triton="an empty status, errors of CUDA",
    irisloop="UNIMPLEMENTED, 501, in words",
    reason="Irisloop computes on CPUs.",
    cases=("cuda/*",),
)
WRAPPED: Final = Difference(
    title="Typed numbers outside of their datatype's range",
    triton="wraps them",
    irisloop="INVALID_ARGUMENT",
    reason="An answer from numbers that nobody sent would be worse than none.",
    cases=("grpc/data/int8 out of range", "http/data/beyond 32 bits"),
)
STRICTER: Final = Difference(
    title="Version `1.5`, a string id where the model takes a number, an unknown trace level, a region without a name",
    triton="takes the part that it can read, or ignores it",
    irisloop="INVALID_ARGUMENT",
    reason="The client meant something else than what it would get.",
    cases=(
        *("grpc/version/1.5", "grpc/sequence/string id for an integer control", "trace/unknown level"),
        "memory/register/no name",
    ),
)
INFINITE: Final = Difference(
    title="`Inf` or `-NaN` in the JSON of a tensor",
    triton="taken",
    irisloop="400; `NaN`, `Infinity` and `-Infinity` are taken, and answered",
    reason="JSON has none of them; those three are what Python's and Triton's writers write, over and above it.",
    cases=("http/nonfinite/data written Inf", "http/nonfinite/data written -NaN"),
)
FIRST_FAULT: Final = Difference(
    title="Which of several faults is named",
    triton="now and then one that follows from another: the number of inputs, bytes, a raw body",
    irisloop="the first: the input, the batch, the JSON, the compression",
    reason="The code is the same; the fault is said more exactly.",
    cases=(
        *("grpc/inputs/one too many", "grpc/sequence/control sent by the client", "grpc/shape/empty batch"),
        *("http/JSON/empty body", "http/JSON/deeply nested", "http/JSON/inputs of numbers", "http/binary/no header"),
        *("http/binary/header too large", "http/compression/*, broken"),
    ),
)
NOT_TEXT: Final = Difference(
    title="BYTES that are not UTF-8",
    triton="passed on, into JSON too, which then is none",
    irisloop="INVALID_ARGUMENT, 400, from a model that takes strings",
    reason="onnxruntime's strings are text; JSON is.",
    cases=("grpc/strings/not UTF-8", "http/strings/not UTF-8, answered in JSON", "http/JSON/not UTF-8"),
)
OTHER_ROUTES: Final = Difference(
    title="Routes outside of `/v2`",
    triton="the protocol's form of errors",
    irisloop="the form of Irisloop's own API",
    reason="They are not the protocol's.",
    cases=("http/GET /", "http/GET /v1/models"),
)
LOG_FORMAT: Final = Difference(
    title="An unknown log format over HTTP",
    triton="503",
    irisloop="400",
    reason="The request is at fault; over gRPC Triton says so too.",
    cases=("log/HTTP unknown format",),
)
RUNTIME: Final = Difference(
    title="Values that the graph itself refuses: an index out of range, text that is no number",
    triton="INTERNAL (in its Python backend, whatever a model raises)",
    irisloop="INVALID_ARGUMENT, 400",
    reason="onnxruntime says that the input is at fault.",
    cases=("grpc/strings/not a number", "*/model/fails while it runs"),
)
TRACED: Final = Difference(
    title="A trace level without a trace file",
    triton="INVALID_ARGUMENT",
    irisloop="taken",
    reason="Spans go to OpenTelemetry; there is no file.",
    cases=("trace/level without a file",),
)
DIFFERENCES: Final[Sequence[Difference]] = (
    *(
        WRONG_JSON,
        MALFORMED,
        REGIONS,
        LOG_FORMAT,
        UNCHECKED,
        RUNTIME,
        WRAPPED,
        INFINITE,
        STRICTER,
        NOT_TEXT,
        FIRST_FAULT,
    ),
    *(READINESS, DIES, EXTENSIONS, CUDA, TRACED, OTHER_ROUTES),
)
