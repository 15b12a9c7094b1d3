"""A decoupled model: IN answers of the value IN, as Triton's own `square` example gives them."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # the backend brings it


class TritonPythonModel:
    """IN [1]; each answer has OUT [1]; none at all where IN is 0; the last one that carries data is the final one."""

    def execute(self, requests: list[Any]) -> None:
        """Answers go out one by one."""
        for request in requests:
            self._square(request)

    def _square(self, request: Any) -> None:
        sender = request.get_response_sender()
        values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        count = int(values[0])
        for place in range(count):
            last = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if place == count - 1 else 0
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values)]), flags=last)
        if count == 0:
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
