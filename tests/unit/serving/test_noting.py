"""An answer is noted before it is given: a kill in between leaves no answer that nobody counts."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from services.serving.domain.calls import InferCall
from services.serving.domain.images import ImageLimits
from services.serving.domain.notes import Note
from services.serving.domain.ports import Regions, Runner
from services.serving.domain.routes import Route, RouteTable, Version
from services.serving.domain.tensors import TensorData
from services.serving.domain.work import Work
from services.serving.handlers.inference import Inference
from services.serving.handlers.rollouts import Rollouts
from tests.unit.serving.runners import config_of


class AtOnce:
    """Runs what it is given then and there: y = 2 x."""

    def submit(self, work: Work, inline: Any = None) -> None:
        work.sink({"y": work.inputs["x"] * 2}, True)


class Order:
    """Notes and answers as they come."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, note: Note) -> None:
        self.seen.append(f"noted {note.traceparent}")

    def reply(self, answer: Any, last: bool) -> None:
        self.seen.append(f"answered {answer.outputs[0].data[0][0]:g}")


def test_an_answer_is_noted_before_it_is_given() -> None:
    order = Order()
    version = Version("m", "1", config_of(), cast(Runner, AtOnce()))
    table = RouteTable().replaced(Route("m", versions={"1": version}, default=version))
    no_regions: Any = cast(Regions, None)
    inference = Inference(
        lambda: table, Rollouts(lambda: table), order, no_regions, lambda run: run(), ImageLimits(), lambda model: False
    )
    tensor = TensorData("x", "FP32", (1, 2), np.array([3, 3], np.float32).tobytes())
    inference.submit(InferCall("m", "", [tensor], traceparent="t"), order.reply)
    assert order.seen == ["noted t", "answered 6"]
