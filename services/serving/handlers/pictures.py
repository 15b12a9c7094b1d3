"""Encoded images as clients have them, for models that take an image: JPEG, PNG or WebP in a BYTES tensor."""

from __future__ import annotations

from collections.abc import Sequence

from services.serving.domain.calls import InferCall
from services.serving.domain.images import ImageLimits, prepared, stacked
from services.serving.domain.ports import Regions
from services.serving.domain.routes import Version
from services.serving.domain.sampling import Inputs
from services.serving.domain.tensors import strings
from services.serving.domain.work import Arrays
from services.serving.errors import BadRequest
from services.serving.handlers.requests import from_region


def holds_images(version: Version, call: InferCall) -> bool:
    """Whether the call brings encoded images for the model's image input."""
    return (
        version.image is not None
        and len(call.inputs) == 1
        and call.inputs[0].datatype == "BYTES"
        and call.inputs[0].name == version.image.name
    )


def images_of(version: Version, call: InferCall, regions: Regions) -> list[bytes]:
    """The encoded images, one a row of [N] or [N, 1]. Raises `BadRequest`."""
    tensor = from_region(call.inputs[0], regions)
    shape = tensor.shape
    if len(shape) not in (1, 2) or min(shape) < 1 or (len(shape) == 2 and shape[1] != 1):
        raise BadRequest(
            f"unexpected shape for input {tensor.name!r} for model {version.model!r}: encoded images come as [N] or "
            f"[N, 1], got {list(shape)[:16]}",
            field=f"inputs.{tensor.name}",
        )
    most = version.config.max_batch_size or 1
    if shape[0] > most:
        raise BadRequest(f"inference request batch-size must be <= {most} for {version.model!r}", field="inputs")
    found = [bytes(item) for item in tensor.values] if tensor.raw is None else strings(tensor, tensor.raw)
    if len(found) != shape[0]:
        raise BadRequest(
            f"input {tensor.name!r} holds {len(found)} images; its shape says {shape[0]}",
            field=f"inputs.{tensor.name}",
        )
    return found


def decoded_images(version: Version, images: list[bytes], limits: ImageLimits) -> Arrays:
    """The model's input tensor: decoded, resized and laid out as its card says. Raises `BadImage`."""
    assert version.image is not None
    pixels = [prepared(data, version.image, limits) for data in images]
    tensor = stacked(pixels, version.image)
    return {version.image.name: tensor if version.config.max_batch_size else tensor[0].reshape(_dims(version))}


def kept_inputs(version: Version, call: InferCall, encoded: Sequence[bytes], inputs: Arrays) -> Inputs:
    """What the call brought, as images that can be kept after it; nothing is copied, so what lies in memory that is the
    client's again is left.
    """
    image = version.image
    if version.config.decoupled:
        return Inputs(missing="decoupled")
    if encoded:
        return Inputs(encoded)
    tensor = inputs.get(image.name) if image is not None and len(inputs) == 1 else None
    if tensor is None or tensor.dtype.str != "|u1":
        return Inputs(missing="not_an_image")
    if call.inputs[0].region is not None:
        return Inputs(missing="in_shared_memory")
    return Inputs(tensor=tensor)


def _dims(version: Version) -> tuple[int, ...]:
    """Without a batch dimension the declared shape may still lead with a 1."""
    return version.config.inputs[0].dims
