"""A model of Triton's Python backend that runs the ONNX file with onnxruntime, one thread, as Irisloop does.

It is what a careful user writes: the requests that Triton batched are run as one, and nothing is copied twice. Triton
loads it in an interpreter of its own, which finds onnxruntime at the folder named in config.pbtxt.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # the backend brings it


class TritonPythonModel:
    """INPUT to OUTPUT."""

    def initialize(self, args: dict[str, Any]) -> None:
        """Open the session; `packages` is a parameter of the model."""
        parameters = json.loads(args["model_config"])["parameters"]
        sys.path.append(parameters["packages"]["string_value"])
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        file = Path(args["model_repository"]) / args["model_version"] / "weights.onnx"
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One run for all of them."""
        tensors = [pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy() for request in requests]
        joined = tensors[0] if len(tensors) == 1 else np.concatenate(tensors)
        (answer,) = self.session.run(["OUTPUT"], {"INPUT": joined})
        responses, first = [], 0
        for tensor in tensors:
            part = answer[first : first + len(tensor)]
            first += len(tensor)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", part)]))
        return responses
