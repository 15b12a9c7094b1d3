"""A golden input: an example beside a model, with the outputs that its maker's own framework gave for it, so that a
version which computes something else here is found before it answers.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.serving.domain.tensors import Array
from services.serving.domain.work import Arrays
from services.serving.errors import BadPackage

GOLDEN_FILE: Final = "golden.npz"
INPUTS: Final = "inputs/"
OUTPUTS: Final = "outputs/"
ABSOLUTE: Final = "atol"
RELATIVE: Final = "rtol"
DEFAULT_TOLERANCE: Final = 1e-3
UNPACKED_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Golden:
    """Tensors by the graph's names, in the graph's shapes."""

    inputs: Arrays
    outputs: Arrays
    """Those that are compared; the model may have more."""
    absolute: float = DEFAULT_TOLERANCE
    relative: float = DEFAULT_TOLERANCE
    """An output of floats may differ by `absolute + relative * |expected|`; others may not differ."""

    @property
    def rows(self) -> int:
        """The first dimension of the inputs; 1 where they have none."""
        first = next(iter(self.inputs.values()))
        return int(first.shape[0]) if first.ndim else 1

    def check(self, found: Arrays) -> None:
        """Raises `BadPackage` for the first output that is not as it should be."""
        for name, expected in self.outputs.items():
            if name not in found:
                raise _bad(f"names the output {name!r}, which the model has not; it has {', '.join(sorted(found))}")
            self._compare(name, found[name], expected)

    def _compare(self, name: str, found: Array, expected: Array) -> None:
        kinds = ("f" if array.dtype.kind == "f" else array.dtype.str[1:] for array in (found, expected))
        if found.shape != expected.shape or len(set(kinds)) > 1:
            raise _bad(
                f"expects output {name!r} as {expected.dtype} {list(expected.shape)}; the model gave "
                f"{found.dtype} {list(found.shape)}"
            )
        difference, allowed = self._differences(found, expected)
        beyond = np.where(difference <= allowed, -1.0, difference)
        if beyond.size and beyond.max() >= 0:
            place = np.unravel_index(int(beyond.argmax()), beyond.shape)
            raise _bad(
                f"does not give what it should: output {name!r} differs by {beyond[place]:.6g} at "
                f"{[int(index) for index in place]} (expected {expected[place]:.6g}, got {found[place]:.6g}); "
                f"allowed is {self._tolerance(expected)}"
            )

    def _differences(self, found: Array, expected: Array) -> tuple[Array, Array]:
        """Of each value, and what is allowed there; what is no number differs without end from all but its like."""
        wanted, got = expected.astype(np.float64), found.astype(np.float64)
        same = (found == expected) | (np.isnan(wanted) & np.isnan(got))
        if expected.dtype.kind != "f":
            return np.where(same, 0.0, np.maximum(np.abs(got - wanted), 1.0)), np.zeros(wanted.shape)
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.nan_to_num(np.abs(got - wanted), nan=np.inf, posinf=np.inf))
            allowed = self.absolute + self.relative * np.abs(wanted)
        return difference, np.where(np.isfinite(allowed), allowed, 0.0)

    def _tolerance(self, expected: Array) -> str:
        return f"{self.absolute:g} + {self.relative:g} x |expected|" if expected.dtype.kind == "f" else "nothing"


def read_golden(data: bytes) -> Golden:
    """Read golden.npz: `inputs/NAME`, `outputs/NAME`, and the numbers `atol` and `rtol`. Raises `BadPackage`."""
    if len(data) > UNPACKED_BYTES:
        raise _bad(f"has more than {UNPACKED_BYTES} bytes")
    arrays = _arrays(data)
    inputs = {name.removeprefix(INPUTS): array for name, array in arrays.items() if name.startswith(INPUTS)}
    outputs = {name.removeprefix(OUTPUTS): array for name, array in arrays.items() if name.startswith(OUTPUTS)}
    if not inputs or not outputs:
        raise _bad(f"needs at least one array {INPUTS}NAME and one {OUTPUTS}NAME")
    if any(array.dtype.kind not in "biuf" for array in arrays.values()):
        raise _bad("may hold numbers and booleans alone")
    return Golden(inputs, outputs, _number(arrays, ABSOLUTE), _number(arrays, RELATIVE))


def _arrays(data: bytes) -> Arrays:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > UNPACKED_BYTES:
            raise _bad(f"unpacks to {size} bytes; at most {UNPACKED_BYTES} are read")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except BadPackage:
        raise
    except Exception as error:  # zipfile and numpy say in many ways that a file is damaged
        raise _bad(f"is no .npz file of numbers: {str(error)[:200] or repr(error)}") from error


def _number(arrays: Arrays, name: str) -> float:
    value = arrays.get(name, np.array(DEFAULT_TOLERANCE))
    if value.size != 1 or not np.isfinite(value).all() or value.min() < 0:
        raise _bad(f"has an {name} that is not one number of 0 or more")
    return float(value.reshape(-1)[0])


def _bad(problem: str) -> BadPackage:
    return BadPackage(f"{GOLDEN_FILE} {problem}.", field=GOLDEN_FILE)
