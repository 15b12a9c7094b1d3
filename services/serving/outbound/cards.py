"""What the tensors of a model folder's model mean: from its `model.json`, else from what its configuration declares."""

from __future__ import annotations

from services.serving.domain.config import ModelConfig, TensorConfig
from services.serving.domain.package import ImageInput, ModelCard

CHANNELS = (1, 3)
FLOATS = frozenset({"FP16", "FP32", "FP64"})


def card_of(config: ModelConfig) -> ModelCard | None:
    """A card for a classifier of images that is described well enough: one input with a `format`, and one output of
    floats with labels. Triton does not say whether these are logits; they are taken for logits.
    """
    image = image_of(config)
    scores = [tensor for tensor in config.outputs if tensor.labels and tensor.datatype in FLOATS]
    if image is None or len(scores) != 1 or not config.max_batch_size:
        return None
    return ModelCard(
        classes=scores[0].labels,
        image=image,
        scores=scores[0].name,
        logits=True,
        embedding="",
        temperature=1.0,
        max_batch=config.max_batch_size,
    )


def image_of(config: ModelConfig) -> ImageInput | None:
    """The image that the model takes, when its only input has a `format` and fixed sizes."""
    if len(config.inputs) != 1:
        return None
    (tensor,) = config.inputs
    dtype = {"UINT8": "uint8", "FP32": "float32"}.get(tensor.datatype)
    sizes = _sizes(tensor)
    if dtype is None or sizes is None:
        return None
    channels, height, width = sizes
    return ImageInput(tensor.name, tensor.format, dtype, channels, height, width)


def _sizes(tensor: TensorConfig) -> tuple[int, int, int] | None:
    if not tensor.format or len(tensor.dims) != 3 or min(tensor.dims) < 1:
        return None
    first, second, third = tensor.dims
    channels, height, width = (first, second, third) if tensor.format == "NCHW" else (third, first, second)
    return (channels, height, width) if channels in CHANNELS else None
