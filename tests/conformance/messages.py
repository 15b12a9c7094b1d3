"""What an error says, as one of few classes: two servers need not use the same words, but must mean the same.

The first class whose pattern is found names the message. What no pattern finds is `other`, which equals only itself.
"""

from __future__ import annotations

import re
from typing import Final

CLASSES: Final[tuple[tuple[str, str], ...]] = (
    ("method unknown", r"^$|^method not found!?$"),
    ("route unknown", r"^not found\.?$"),
    ("method not allowed", r"^method not allowed\.?$"),
    ("model not ready", r"model version not ready"),
    ("failed to poll", r"failed to poll from model repository"),
    ("failed while it ran", r"onnxruntime (cannot|could not|failed)|out of bounds for axis|invalid literal for int"),
    ("load failed", r"load failed for model"),
    ("unknown version", r"unknown model: '.*' version .* is not found|version is not available for model"),
    ("unknown model", r"unknown model|requested model '.*' is not available"),
    ("version is no number", r"version (string|specified)"),
    ("decoupled model", r"decoupled"),
    ("reserved parameter", r"starting with 'triton_' are reserved"),
    ("JSON cannot be parsed", r"failed to parse the request JSON buffer|the document is empty"),
    ("JSON lacks or mistypes a field", r"attempt to (access|get)|has invalid type|Unable to parse JSON"),
    ("JSON lacks or mistypes a field", r"Unable to parse '\w+': (a |text)|register request has no"),
    ("place in shared memory", r"Invalid offset|'shared_memory_\w+' (of|parameter|must)"),
    (
        "parameter of a wrong type",
        r"invalid value type for|expect (only 1 value|boolean|int32|string|uint32)|must be text",
    ),
    ("parameter out of range", r"invalid value for '|Unable to parse '\w+', got"),
    ("unknown load parameter", r"unrecognized (load|unload) parameter|error on creating Triton parameter"),
    ("repository named", r"'repository_name' specification is not supported"),
    ("sequence without an id", r"must specify a non-zero or non-empty correlation ID"),
    ("sequence not started", r"must specify the START flag"),
    ("sequence of batches", r"must specify batch-size 1"),
    ("sequence id too long", r"correlation ID cannot be longer"),
    ("input unknown", r"unexpected inference input"),
    ("output unknown", r"unexpected inference output"),
    ("input doubled", r"already exists in request"),
    ("number of inputs", r"expected \d+ inputs but got|expected between \d+ and \d+ inputs|missing required input"),
    ("no data", r"unable to find data for input|only one of the following fields.*But (no field|set none)"),
    (
        "data twice",
        r"contents field must not be specified|only one of the following fields|unexpected 'content' provided",
    ),
    ("typed contents of another type", r"unexpected explicit tensor data"),
    ("strings cut off", r"incomplete string"),
    ("size of the data", r"byte size mismatch|additional bytes for model|additional input data|string elements"),
    ("size of the data", r"Shape does not match true shape|holds \d+ values; its shape needs"),
    ("datatype", r"data-type is|invalid datatype|(receiving|sending) (FP16|BF16) data via JSON|has the datatype"),
    ("shape", r"batch-size must be|batch size (\d+ for|does not match)|unexpected shape for input|has no shape"),
    ("raw body", r"Raw request must only have 1 input|raw input"),
    ("header length", r"inference header size"),
    ("compression", r"Unsupported compression|decompress"),
    ("region unknown", r"Unable to find .*shared memory region"),
    ("region exists", r"already in manager"),
    ("region cannot be opened", r"Unable to open shared memory region"),
    ("region refused", r"failed to register shared memory region|Invalid shared memory region"),
    ("region too small for the output", r"should be at least .* to hold the results"),
    ("region and something else", r"can't set both|can't be used for classification"),
    ("CUDA", r"cuda"),
    ("trace setting", r"invalid trace setting|trace file|trace_level"),
    ("log setting", r"invalid argument for .*log_format|log file"),
    ("wire", r"Unable to parse request"),
)
_COMPILED: Final = tuple((name, re.compile(pattern, re.IGNORECASE | re.DOTALL)) for name, pattern in CLASSES)


def class_of(message: str) -> str:
    """The message's class; `other` where no pattern fits."""
    return next((name for name, pattern in _COMPILED if pattern.search(message)), "other")
