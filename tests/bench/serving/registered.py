"""Models as registry publishes them, for measurements that need serving's whole road, from packages to events."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from irisloop.registry.v1 import registry_pb2
from irisloop.topics import ALIASES_PUBLISHED
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import Bus, Event, derive_id
from tests.bench.serving.models import INPUT, MODELS, OUTPUT, BenchModel
from tests.unit.serving import tiny

KIND: Final = "cnn"
"""Of all of them: the card describes an image."""


def named(name: str) -> BenchModel:
    """The model under another name."""
    return replace(MODELS[KIND], name=name)


def package_files(seed: int) -> dict[str, bytes]:
    """The model as registry's packages have it."""
    image = {"name": INPUT, "layout": "NCHW", "dtype": "float32", "channels": 3, "height": 64, "width": 64}
    card = tiny.card(classes=[str(n) for n in range(10)], input=image, outputs={"logits": OUTPUT}, run_id=str(seed))
    return {"model.onnx": MODELS[KIND].file(seed), "model.json": json.dumps(card).encode()}


async def crown(bus: Bus, model: str, revision: int, version: str, package: trainer_pb2.ModelPackage) -> None:
    """Say that a version is the model's champion."""
    champion = registry_pb2.ModelVersion(model=model, version=version, package=package)
    value = registry_pb2.AliasesPublished(model=model, revision=revision)
    value.aliases.add(name="champion", version=champion)
    identity = derive_id("aliases", model, str(revision))
    await bus.publish([Event(ALIASES_PUBLISHED, model, value, identity, datetime.now(UTC))])
