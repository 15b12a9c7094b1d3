"""Tensors in memory that two processes share: one writes and one reads, in the same order."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ALIGNED: Final = 64
"""Where arrays begin: onnxruntime copies what is not aligned."""


def shared_file(size: int) -> int:
    """A file of so many bytes without a name, in memory where the system has that; returns its descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("irisloop-shadow")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def padded(size: int) -> int:
    """The size that an array takes."""
    return -(-size // ALIGNED) * ALIGNED


class Ring:
    """The writer's side: hands out places, and takes them back in the order in which they were given.

    Positions only grow; a place is its position modulo the size, and never wraps around the end.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._size = size
        self._bytes: NDArray[np.uint8] = np.frombuffer(mmap.mmap(descriptor, size), dtype=np.uint8)
        self._before = 0
        self._written = 0
        self._freed = 0

    @property
    def used(self) -> int:
        """Bytes that the reader has not given back."""
        return self._written - self._freed

    def put(self, arrays: Sequence[NDArray[Any]]) -> tuple[int, int] | None:
        """Copy the arrays, one after the other; (offset, position behind them), or None when they do not fit now."""
        size = sum(padded(array.nbytes) for array in arrays)
        start = self._written
        if start % self._size + size > self._size:
            start += self._size - start % self._size
        if size > self._size or start + size - self._freed > self._size:
            return None
        offset = at = start % self._size
        for array in arrays:
            self._bytes[at : at + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            at += padded(array.nbytes)
        self._before, self._written = self._written, start + size
        return offset, self._written

    def take_back(self) -> None:
        """The reader will not hear of what was put last."""
        self._written = self._before

    def free(self, position: int) -> None:
        """The reader is done with everything up to here."""
        self._freed = max(self._freed, position)


class RingReader:
    """The reader's side."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._memory = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)

    def arrays(self, offset: int, layout: Sequence[tuple[str, str, Sequence[int]]]) -> dict[str, NDArray[Any]]:
        """The arrays at a place: (name, dtype, shape) of each. They are views, and good until the place is freed."""
        found: dict[str, NDArray[Any]] = {}
        for name, dtype, shape in layout:
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(self._memory, dtype=dtype, count=count, offset=offset).reshape(shape)
            found[name] = array
            offset += padded(array.nbytes)
        return found
