"""What a step is made of: balanced batches that repeat by seed, mild augmentation, a checkpoint after each epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.trainer.child.augmentation import augment
from services.trainer.child.network import SmallNetwork
from services.trainer.child.training import Examples, Progress, Recipe, Trainer, batches, predict

RECIPE = Recipe(epochs=2, batch=8, learning_rate=1e-3, steps_an_epoch=5, new_share=0.5, flip=False, seed=7)


def examples(count: int, new: int, side: int = 16) -> Examples:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (count, 1, side, side), np.uint8)
    return Examples(images, np.arange(count) % 2, np.arange(count) < new)


@pytest.mark.parametrize(("share", "fresh"), [(0.5, 4), (0.25, 2), (0.999, 7), (0.001, 1)])
def test_each_batch_holds_its_share_of_new_rows(share: float, fresh: int) -> None:
    steps = batches(examples(100, 10), replace(RECIPE, new_share=share), 0)
    assert len(steps) == 5
    assert [len(rows) for rows in steps] == [8] * 5
    assert [int((rows < 10).sum()) for rows in steps] == [fresh] * 5


def test_rows_of_a_condition_are_used_equally_often() -> None:
    steps = np.concatenate(batches(examples(100, 10), replace(RECIPE, steps_an_epoch=25), 0))
    counts = np.bincount(steps[steps < 10], minlength=10)
    assert counts.tolist() == [10] * 10
    old = np.bincount(steps[steps >= 10], minlength=100)[10:]
    assert {int(old.min()), int(old.max())} <= {1, 2}


@pytest.mark.parametrize("new", [0, 40])
def test_with_one_condition_every_row_is_seen_once(new: int) -> None:
    steps = batches(examples(40, new), RECIPE, 0)
    assert sorted(np.concatenate(steps).tolist()) == list(range(40))


def test_batches_repeat_by_seed_and_epoch() -> None:
    def drawn(epoch: int, seed: int = 7) -> list[int]:
        return [int(row) for rows in batches(examples(100, 10), replace(RECIPE, seed=seed), epoch) for row in rows]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    assert drawn(0) != drawn(0, seed=8)


def test_augmentation_is_mild_and_repeats_by_generator() -> None:
    images = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(1))

    def varied(seed: int, flip: bool = False) -> torch.Tensor:
        return augment(images, torch.Generator().manual_seed(seed), flip=flip)

    assert varied(1).shape == images.shape
    assert torch.equal(varied(1), varied(1))
    assert not torch.equal(varied(1), varied(2))
    erased = (varied(1) == 0.0).sum((1, 2, 3))
    assert set(erased.tolist()) == {0, 36}
    assert 1 <= int((erased > 0).sum()) <= 32
    plain, mirrored = varied(1), varied(1, flip=True)
    assert 16 <= sum(not torch.equal(a, b) for a, b in zip(plain, mirrored, strict=True)) <= 64


def test_half_of_the_images_get_noise_up_to_what_is_asked_for() -> None:
    flat = torch.zeros(400, 1, 28, 28)
    plain = augment(flat, torch.Generator().manual_seed(1), flip=False)
    rough = augment(flat, torch.Generator().manual_seed(1), flip=False, noise=0.5)
    assert float(plain.flatten(1).std(1).max()) < 0.1
    deviation = (rough[:, :, 2:-2, 2:-2] - rough[:, :, 2:-2, 2:-2].mean((2, 3), keepdim=True)).flatten(1).std(1)
    noisy = deviation[deviation > 0.1]
    assert 120 <= len(noisy) <= 200
    assert 0.4 < float(noisy.max()) < 0.55


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (2, 1), (2, 2), (4, 1), (1, 4), (5, 1)])
def test_runs_of_any_length_have_a_schedule(tmp_path: Path, epochs: int, steps: int) -> None:
    recipe = replace(RECIPE, epochs=epochs, steps_an_epoch=steps)
    said: list[Progress] = []
    Trainer(SmallNetwork(1, 2), recipe, tmp_path / "checkpoint.pt").run(examples(16, 4), examples(4, 0), said.append)
    assert [progress.epoch for progress in said] == list(range(1, epochs + 1))


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_a_resumed_training_ends_where_an_undisturbed_one_does(tmp_path: Path, noise: float) -> None:
    recipe = replace(RECIPE, noise=noise)
    train, validation = examples(40, 8), examples(6, 0)

    class Killed(Exception):
        pass

    def network() -> SmallNetwork:
        torch.manual_seed(7)
        return SmallNetwork(1, 2)

    def kill(progress: Progress) -> None:
        raise Killed

    undisturbed, resumed = network(), network()
    Trainer(undisturbed, recipe, tmp_path / "a.pt").run(train, validation, lambda _: None)
    with pytest.raises(Killed):
        Trainer(network(), recipe, tmp_path / "b.pt").run(train, validation, kill)
    said: list[Progress] = []
    Trainer(resumed, recipe, tmp_path / "b.pt").run(train, validation, said.append)
    assert [progress.epoch for progress in said] == [2]
    for one, other in zip(undisturbed.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_predictions_of_nothing_are_nothing() -> None:
    logits, embeddings = predict(SmallNetwork(1, 3), np.zeros((0, 1, 16, 16), np.uint8))
    assert (logits.shape, embeddings.shape) == ((0, 3), (0, 128))
