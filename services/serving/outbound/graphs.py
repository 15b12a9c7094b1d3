"""What an ONNX file declares, without making it ready to run: read by `irisloop migrate`, which only looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.serving.domain.tensors import TensorSpec
from services.serving.errors import BadPackage
from services.serving.outbound.backends.onnx import Options, first_line, open_session, specs

UNOPTIMISED: Final = Options(graph_level=2)


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph's tensors, the batch dimension and all."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    overridable: tuple[TensorSpec, ...]
    """Constants that a request may replace: Triton's optional inputs."""


def declared(path: Path) -> Graph:
    """Read by onnxruntime. Raises `BadPackage` when it does not take the file, or for tensors that are not served."""
    try:
        session = open_session(str(path), UNOPTIMISED)
    except Exception as error:  # onnxruntime's own classes have no common base but Exception
        raise BadPackage(f"onnxruntime does not load {path.name}: {first_line(error)}", field=path.name) from error
    return Graph(
        tuple(specs(session.get_inputs())),
        tuple(specs(session.get_outputs())),
        tuple(specs(session.get_overridable_initializers())),
    )
