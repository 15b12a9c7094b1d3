"""What all targets share: damage, a time limit, and a bound on memory."""

from __future__ import annotations

import ctypes
import gc
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from services.common.errors import IrisloopError

WARM: Final = 20_000
"""Inputs until memory has settled."""
LOOK: Final = 100_000
"""Inputs between two looks at memory."""
GROWTH_KB: Final = 20 << 10
LONGEST: Final = 10_000
"""Characters of a refusal."""


def throw(
    seconds: float, seed: int | None, seeds: Sequence[bytes], read: Callable[[bytes, random.Random], None]
) -> int:
    """Give `read` damaged seeds and noise until the time is over; only our errors may come out. Returns how many.

    What failed can be made again: the seed is in the error's notes.
    """
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    rng = random.Random(seed)
    ends, memory = time.monotonic() + seconds, Memory(seed)
    while time.monotonic() < ends:
        data = damaged(rng, rng.choice(seeds)) if rng.random() < 0.9 else rng.randbytes(rng.randrange(200))
        try:
            read(data, rng)
        except IrisloopError as error:
            str(error).encode()
            assert len(str(error)) < LONGEST
        except Exception as error:
            error.add_note(f"seed {seed}, input {memory.tried}: {data[:200]!r}")
            raise
        memory.count()
    return memory.end()


class Memory:
    """Counts inputs, and holds what the process keeps to a bound: 20 MiB over what it kept once it had settled."""

    def __init__(self, seed: int, warm: int = WARM) -> None:
        """`warm`: inputs until it is expected to have settled."""
        self._seed = seed
        self._warm = warm
        self._settled = 0
        self.tried = 0

    def count(self) -> None:
        """One more. Raises `AssertionError`."""
        self.tried += 1
        if self.tried == self._warm:
            self._settled = kept_kb()
        elif self.tried % LOOK == 0:
            self._check()

    def end(self) -> int:
        """How many there were. Raises `AssertionError`."""
        self._check()
        return self.tried

    def _check(self) -> None:
        if self._settled:
            grown = kept_kb() - self._settled
            assert grown < GROWTH_KB, f"memory grew by {grown} KB up to {self.tried}, seed {self._seed}"


def damaged(rng: random.Random, seed: bytes) -> bytes:
    """The seed with a few bytes flipped, cut, doubled, or taken from elsewhere."""
    data = bytearray(seed)
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(data) + 1)
        end = min(len(data), place + rng.randrange(1, 9))
        match rng.randrange(5):
            case 0 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place:end]
            case 2:
                data[place:place] = data[place:end]
            case 3:
                data[place:end] = rng.randbytes(end - place)
            case _:
                data[place:end] = rng.choice((b"\xff" * 9, b"\x00", b"-1", b"1e999", b"[[[", b'"', b"\x80" * 10))
    return bytes(data)


def kept_kb() -> int:
    """What this process keeps: its resident memory once the allocator has given back the pages that nothing uses.

    Without that the figure swings by tens of MiB: large blocks come from the top of the heap and go back late.
    """
    if sys.platform != "linux":
        return 0
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4
