"""One run, start to end: data, training, package, report."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from services.common.errors import IrisloopError, Transient
from services.common.objects import ObjectStore
from services.common.signing import Signer
from services.trainer.child.data import Splits, load
from services.trainer.child.evaluation import Package, evaluate
from services.trainer.child.network import SmallNetwork
from services.trainer.child.package import description, export, folder, golden, parity
from services.trainer.child.roughness import added_noise
from services.trainer.child.training import Examples, Progress, Recipe, Trainer, predict
from services.trainer.domain.jobs import Answer, Job, ModelReport, answer_document, read_job
from services.trainer.domain.scores import temperature
from services.trainer.errors import NothingToLearnFrom

PARITY_IMAGES = 256
LEARNING_RATE_COLD = 3e-3
LEARNING_RATE_WARM = 1.5e-3
NOISIER = 1.6
"""Augmentation draws noise up to so many times what the new condition added; clipping hides a part of that."""


def carry_out(place: Path) -> int:
    """Do the job of a folder whose lease is held: 0 when result.json was written, which may hold an error.

    What may pass (an object store that is away) is said on standard error and ends with 1: it is tried again.
    """
    job = read_job(json.loads((place / "job.json").read_text(encoding="utf-8")))
    os.nice(job.niceness)
    torch.set_num_threads(job.threads or max(1, (os.cpu_count() or 1) // 2))
    try:
        answer = asyncio.run(_run(job, place))
    except Transient as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except IrisloopError as error:
        answer = Answer("", 0, "", "", "", [], 0.0, 0, error=str(error))
    part = place / "result.part"
    part.write_text(json.dumps(answer_document(answer)), encoding="utf-8")
    part.replace(place / "result.json")
    return 0


async def _run(job: Job, place: Path) -> Answer:
    async with ObjectStore(job.objects, "power" if job.durability == "power" else "process") as objects:
        splits = await load(objects, job.manifest, place, job.longest_side)
        champion = await _champion(job, objects, splits)
        if job.kind == "evaluate":
            return Answer("", 0, "", "", "", champion, 0.0, 0)
        network = await _network(job, objects, splits)
        train(job, network, splits, place / "checkpoint.pt")
        return await _publish(job, objects, network, splits, champion)


async def _champion(job: Job, objects: ObjectStore, splits: Splits) -> list[ModelReport]:
    if job.opponent is None:
        return []
    package = Package.open(await objects.get_folder(job.opponent.package))
    return [evaluate("champion", job.opponent.version, package, splits.test, job.class_names)]


async def _network(job: Job, objects: ObjectStore, splits: Splits) -> SmallNetwork:
    torch.manual_seed(job.seed)
    images = splits.train.images
    sample = images[:: max(1, len(images) // 2000)].astype(np.float32) / 255.0
    network = SmallNetwork(images.shape[1], len(job.class_names), float(sample.mean()), max(float(sample.std()), 0.05))
    if job.weights:
        weights = torch.load(io.BytesIO(await objects.get(job.weights)), weights_only=True)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise NothingToLearnFrom(
                "the champion's weights do not fit these images: start from scratch (`from_scratch`)", field="weights"
            ) from error
    return network


def train(job: Job, network: SmallNetwork, splits: Splits, checkpoint: Path) -> None:
    """Train to the last epoch, from the checkpoint when there is one."""
    rows = splits.train
    after_drift = bool(job.weights) and bool(rows.new.any())
    recipe = Recipe(
        epochs=job.epochs,
        batch=min(job.batch, len(rows)),
        learning_rate=LEARNING_RATE_WARM if job.weights else LEARNING_RATE_COLD,
        steps_an_epoch=job.steps if after_drift else max(1, len(rows) // job.batch),
        new_share=job.new_share,
        flip=job.flip,
        seed=job.seed,
        noise=NOISIER * added_noise(rows.images[rows.new], rows.images[~rows.new]) if after_drift else 0.0,
    )
    examples = Examples(rows.images, rows.labels, rows.new)
    validation = Examples(splits.validation.images, splits.validation.labels, splits.validation.new)
    Trainer(network, recipe, checkpoint).run(examples, validation, _say)


async def _publish(
    job: Job, objects: ObjectStore, network: SmallNetwork, splits: Splits, champion: list[ModelReport]
) -> Answer:
    shape = splits.train.images.shape[1:]
    model = export(network, *shape)
    checked = np.concatenate([splits.test.images, splits.validation.images])[:PARITY_IMAGES]
    difference = parity(network, model, checked)
    fitted = temperature(predict(network, splits.validation.images)[0], splits.validation.labels)
    example = golden(network, shape)
    plain = folder(model, description(job, shape, {}, fitted), example)
    report = evaluate("challenger", "", Package.open(plain), splits.test, job.class_names)
    metrics = {f"accuracy_{score.condition}": round(score.accuracy, 4) for score in report.scores if score.assets}
    files = folder(model, description(job, shape, metrics, fitted), example)
    digest = await objects.put_folder(files)
    signature = Signer.of_home(Path(job.home)).sign(digest)
    buffer = io.BytesIO()
    torch.save({name: value.contiguous() for name, value in network.state_dict().items()}, buffer)
    return Answer(
        digest=digest,
        size_bytes=sum(map(len, files.values())),
        signature=signature.value,
        key_id=signature.key_id,
        weights=await objects.put(buffer.getvalue()),
        models=[report, *champion],
        parity_max_difference=difference,
        parity_images=len(checked),
    )


def _say(progress: Progress) -> None:
    sys.stdout.write(json.dumps(asdict(progress)) + "\n")
    sys.stdout.flush()
