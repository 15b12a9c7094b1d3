"""A decoupled model: one answer for each element of IN, as Triton's own `repeat` example gives them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # the backend brings it


class TritonPythonModel:
    """IN [n], DELAY [n] and WAIT [1] in ms; each answer has OUT [1] and IDX [1]."""

    def execute(self, requests: list[Any]) -> None:
        """Answers go out one by one; the last is followed by an empty final one."""
        for request in requests:
            self._repeat(request)

    def _repeat(self, request: Any) -> None:
        sender = request.get_response_sender()
        values, delays = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("IN", "DELAY"))
        for place, (value, delay) in enumerate(zip(values, delays, strict=True)):
            time.sleep(min(int(delay), 10) / 1000)
            sender.send(
                pb_utils.InferenceResponse(
                    [
                        pb_utils.Tensor("OUT", np.array([value], dtype=np.int32)),
                        pb_utils.Tensor("IDX", np.array([place], dtype=np.uint32)),
                    ]
                )
            )
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
