"""The Triton Python backend's side of a test model: `tests.conformance.models` puts this text, the model's tensors and
its computation into one model.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # the backend brings it

INPUTS: list[dict[str, Any]] = []  # filled in by `tests.conformance.models`
OUTPUTS: list[dict[str, Any]] = []


class TritonPythonModel:
    """Answers each request of a batch on its own."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Say the tensors where the configuration does not."""
        given = config.as_dict()
        if not given["input"]:
            for tensor in INPUTS:
                config.add_input(tensor)
        if not given["output"]:
            for tensor in OUTPUTS:
                config.add_output(tensor)
        return config

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            found = compute({tensor.name(): _array(tensor) for tensor in request.inputs()})  # type: ignore[name-defined]  # noqa: F821
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse([_tensor(name, values) for name, values in found.items()])


def _array(tensor: Any) -> Any:
    """numpy has no bfloat16: such a tensor is passed on as it is."""
    try:
        return tensor.as_numpy()
    except pb_utils.TritonModelException:
        return tensor


def _tensor(name: str, values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return pb_utils.Tensor(name, values)
    return pb_utils.Tensor.from_dlpack(name, values)
