"""What serving and its shadow process say to each other over two pipes; tensors of requests lie in the ring."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ASK: Final = struct.Struct("<IQQQ")
"""Length of what follows, token, offset in the ring, position behind it; then the layout as JSON."""
ANSWER: Final = struct.Struct("<IQQH")
"""Length of what follows, token, position that is free, length of the head; the head as JSON, the arrays' bytes."""
MOST_LAYOUT: Final = 4096 - ASK.size
"""A question is written to the pipe in one piece, or not at all (POSIX: PIPE_BUF)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which package runs, which outputs are wanted, and what lies in the ring."""

    digest: str
    outputs: tuple[str, ...]
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    """Name, dtype and shape."""

    def encoded(self) -> bytes:
        """As JSON."""
        return json.dumps([self.digest, self.outputs, self.inputs]).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Layout:
        """The same, read."""
        digest, outputs, inputs = json.loads(data)
        return cls(digest, tuple(outputs), tuple((name, dtype, tuple(shape)) for name, dtype, shape in inputs))


@dataclass(frozen=True, slots=True)
class Answered:
    """The outputs, or why there are none."""

    token: int
    freed: int
    outputs: Mapping[str, NDArray[Any]]
    error: str = ""


def encoded_answer(answer: Answered) -> bytes:
    """One answer as it goes through the pipe."""
    listed = [(name, array.dtype.str, array.shape) for name, array in answer.outputs.items()]
    head = json.dumps([listed, answer.error]).encode()
    body = [np.ascontiguousarray(array).tobytes() for array in answer.outputs.values()]
    size = ANSWER.size - 4 + len(head) + sum(map(len, body))
    return b"".join([ANSWER.pack(size, answer.token, answer.freed, len(head)), head, *body])


def asked(waiting: bytearray) -> Iterator[tuple[int, int, int, Layout]]:
    """Token, offset, position behind and layout of each whole question, which leaves the buffer with it."""
    while len(waiting) >= ASK.size:
        length, token, offset, freed = ASK.unpack_from(waiting)
        if len(waiting) < ASK.size + length:
            return
        layout = _layout(bytes(waiting[ASK.size : ASK.size + length]))
        del waiting[: ASK.size + length]
        yield token, offset, freed, layout


@lru_cache(maxsize=256)
def _layout(data: bytes) -> Layout:
    return Layout.decoded(data)


def answered(waiting: bytearray) -> Iterator[Answered]:
    """Each whole answer, which leaves the buffer with it."""
    while len(waiting) >= ANSWER.size:
        length, token, freed, head = ANSWER.unpack_from(waiting)
        if len(waiting) < length + 4:
            return
        data = bytes(waiting[ANSWER.size : length + 4])
        del waiting[: length + 4]
        listed, error = json.loads(data[:head])
        outputs, at = {}, head
        for name, dtype, shape in listed:
            outputs[name], at = _array(data, at, dtype, shape)
        yield Answered(token, freed, outputs, error)


def _array(data: bytes, at: int, dtype: str, shape: Sequence[int]) -> tuple[NDArray[Any], int]:
    count = int(np.prod(shape, dtype=np.int64))
    array = np.frombuffer(data, dtype=dtype, count=count, offset=at).reshape(shape)
    return array, at + array.nbytes
