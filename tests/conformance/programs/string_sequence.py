"""A sequence model with string ids that keeps a sum for each: CORRID is added to the last answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # the backend brings it


class TritonPythonModel:
    """OUTPUT = the sum of INPUT since START, plus the id, as a number, at END."""

    def initialize(self, args: dict[str, str]) -> None:
        """No sequence has begun."""
        self._sums: dict[str, int] = {}

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """The configuration says all."""
        return config

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        def read(name: str) -> Any:
            return pb_utils.get_input_tensor_by_name(request, name).as_numpy().ravel()[0]

        values = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
        if not read("READY"):
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", np.zeros_like(values))])
        control = pb_utils.get_input_tensor_by_name(request, "CORRID")
        name = str(request.correlation_id()) if control is None else control.as_numpy().ravel()[0].decode()
        total = int(values.ravel()[0]) + (0 if read("START") else self._sums.get(name, 0))
        self._sums[name] = total
        if read("END"):
            total += int(name) if name.isdigit() else 0
            del self._sums[name]
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", np.full_like(values, total))])
