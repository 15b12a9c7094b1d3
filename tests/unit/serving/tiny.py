"""Tiny real ONNX models and packages of them, made where they are needed."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from irisloop.registry.v1 import registry_pb2
from irisloop.topics import ALIASES_PUBLISHED
from irisloop.trainer.v1 import trainer_pb2
from onnx import TensorProto, checker, helper, numpy_helper

from services.common.bus import Event, derive_id
from services.common.objects import ObjectStore
from services.common.signing import Signer

CLASSES = ("coat", "bag", "shoe")
SIDE = 4
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def weights(seed: int) -> np.ndarray[Any, Any]:
    """[16, 3]: what makes one version differ from another."""
    return np.random.RandomState(seed).standard_normal((SIDE * SIDE, len(CLASSES))).astype(np.float32)


def graph(seed: int = 0, *, batch: int | str = "n", scores: str = "logits") -> bytes:
    """uint8 image [n, 1, 4, 4] -> embedding = pixels / 255 [n, 16] -> logits = embedding @ weights [n, 3]."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "full"], ["scaled"]),
        helper.make_node("Flatten", ["scaled"], ["embedding"], axis=1),
        helper.make_node("MatMul", ["embedding", "weights"], ["raw"]),
        helper.make_node("Softmax" if scores == "probabilities" else "Identity", ["raw"], [scores]),
    ]
    constants = [
        numpy_helper.from_array(np.array(255, dtype=np.float32), "full"),
        numpy_helper.from_array(weights(seed), "weights"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 1, SIDE, SIDE])
    outputs = [
        helper.make_tensor_value_info(scores, TensorProto.FLOAT, [batch, len(CLASSES)]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, SIDE * SIDE]),
    ]
    made = helper.make_graph(nodes, "tiny", [image], outputs, constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def card(**changes: Any) -> dict[str, Any]:
    """model.json of the graph above, with fields of the caller's."""
    document = {
        "format": 1,
        "task": "classification",
        "classes": list(CLASSES),
        "input": {
            "name": "image",
            "layout": "NCHW",
            "dtype": "uint8",
            "channels": 1,
            "height": SIDE,
            "width": SIDE,
        },
        "outputs": {"logits": "logits", "embedding": "embedding"},
        "temperature": 1.0,
        "feature_schema": 1,
        "max_batch_size": 8,
    }
    return {**document, **changes}


def package_files(seed: int = 0, **changes: Any) -> dict[str, bytes]:
    """The two files."""
    return {"model.onnx": graph(seed), "model.json": json.dumps(card(**changes)).encode()}


def golden(seed: int = 0, **changes: np.ndarray[Any, Any]) -> bytes:
    """golden.npz of the graph above, for two images of random pixels, with arrays of the caller's."""
    images = np.random.RandomState(7).randint(0, 256, (2, 1, SIDE, SIDE)).astype(np.uint8)
    embedding = images.reshape(2, -1) / np.float32(255)
    arrays = {"inputs/image": images, "outputs/logits": embedding @ weights(seed), "outputs/embedding": embedding}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **{**arrays, **changes})
    return file.getvalue()


async def store(objects: ObjectStore, home: Path, files: dict[str, bytes]) -> trainer_pb2.ModelPackage:
    """Put a package into the store, signed with the home's key."""
    digest = await objects.put_folder(files)
    signature = Signer.of_home(home).sign(digest)
    return trainer_pb2.ModelPackage(
        digest=digest,
        size_bytes=sum(map(len, files.values())),
        signature=signature.value,
        key_id=signature.key_id,
    )


def aliases(revision: int, **versions: tuple[str, trainer_pb2.ModelPackage]) -> Event[registry_pb2.AliasesPublished]:
    """`aliases published` of the model `clothes`: alias = (version, package)."""
    model = "clothes"
    published = [
        registry_pb2.PublishedAlias(
            name=name,
            version=registry_pb2.ModelVersion(model=model, version=version, package=package),
        )
        for name, (version, package) in versions.items()
    ]
    value = registry_pb2.AliasesPublished(model=model, revision=revision, aliases=published)
    return Event(ALIASES_PUBLISHED, model, value, derive_id("aliases", model, str(revision)), NOON)


def rolling(
    revision: int,
    rollout: registry_pb2.Rollout,
    packages: dict[str, trainer_pb2.ModelPackage],
    **versions: tuple[str, trainer_pb2.ModelPackage],
) -> Event[registry_pb2.AliasesPublished]:
    """The same with a rollout, and the packages of the versions that it names."""
    said = aliases(revision, **versions)
    said.value.rollout.CopyFrom(rollout)
    for version, package in packages.items():
        said.value.rollout_versions.add(model=said.value.model, version=version, package=package)
    return said
