"""Aliases followed: loaded aside, swapped under calls, refused packages leave the old version serving."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from irisloop.serving.v1 import serving_pb2
from irisloop.trainer.v1 import trainer_pb2
from tritonclient.utils import InferenceServerException

from services.common.signing import Signer
from services.serving.errors import Overloaded
from tests.unit.serving import tiny
from tests.unit.serving.house import House, serving
from tests.unit.serving.test_protocol import IMAGES, image, logits
from tests.waiting import until

LOADED = serving_pb2.DEPLOYMENT_STATE_LOADED
FAILED = serving_pb2.DEPLOYMENT_STATE_FAILED
UNLOADED = serving_pb2.DEPLOYMENT_STATE_UNLOADED


async def publish(house: House, revision: int, **aliases: tuple[str, trainer_pb2.ModelPackage]) -> None:
    """Say the aliases, and return once they are followed."""
    await house.publish(tiny.aliases(revision, **aliases))
    await until(lambda: house.revisions() == [revision])


async def package(house: House, seed: int, **changes: object) -> trainer_pb2.ModelPackage:
    return await tiny.store(house.objects, house.home, tiny.package_files(seed, **changes))


async def answering(house: House, version: str = "") -> str:
    """Which version answers now."""
    async with triton.InferenceServerClient(house.address) as client:
        return str((await client.infer("clothes", [image()], version)).get_response().model_version)


async def test_promotion_and_rollback_swap_the_champion_and_say_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as house:
        one, two = await package(house, 1), await package(house, 2)
        await publish(house, 1, champion=("1", one))
        assert await answering(house) == "1"
        await publish(house, 2, champion=("2", two), previous=("1", one), shadow=("1", one))
        assert (await answering(house), await answering(house, "1")) == ("2", "1")
        await publish(house, 3, champion=("1", one))
        assert await answering(house) == "1"
        said = [(change.version, change.state, tuple(change.roles)) for change in house.deployments()]
        assert said == [
            ("1", LOADED, ("champion",)),
            ("1", LOADED, ("previous", "shadow")),
            ("2", LOADED, ("champion",)),
            ("1", LOADED, ("champion",)),
            ("2", UNLOADED, ()),
        ]


async def test_no_call_fails_while_versions_are_swapped_under_load(tmp_path: Path) -> None:
    async with serving(tmp_path) as house:
        packages = [await package(house, seed) for seed in range(1, 9)]
        await publish(house, 1, champion=("1", packages[0]))
        answers: list[int] = []
        done = asyncio.Event()

        async def hammer() -> None:
            async with triton.InferenceServerClient(house.address) as client:
                while not done.is_set():
                    answer = await client.infer("clothes", [image()])
                    version = int(answer.get_response().model_version)
                    assert answer.as_numpy("logits") == pytest.approx(logits(version), abs=1e-5)
                    answers.append(version)

        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(hammer())
            await until(lambda: len(answers) >= 20)
            for number, one in enumerate(packages[1:], start=2):
                seen = len(answers)
                await publish(house, number, champion=(str(number), one))
                await until(lambda seen=seen: len(answers) >= seen + 20)  # type: ignore[misc]
            done.set()
        assert sorted(set(answers)) == list(range(1, 9))
        assert set(house.table.routes["clothes"].versions) == {"8"}


async def test_only_the_newest_revision_of_a_model_matters(tmp_path: Path) -> None:
    async with serving(tmp_path) as house:
        one, two = await package(house, 1), await package(house, 2)
        await house.publish(tiny.aliases(5, champion=("2", two)))
        await until(lambda: house.revisions() == [5])
        await house.publish(tiny.aliases(4, champion=("1", one)), tiny.aliases(5, champion=("1", one)))
        await publish(house, 6, champion=("2", two), previous=("1", one))
        assert [change.version for change in house.deployments()] == ["2", "1"]


def unsigned(good: trainer_pb2.ModelPackage) -> trainer_pb2.ModelPackage:
    return trainer_pb2.ModelPackage(digest=good.digest)


async def refused(house: House, tmp_path: Path, kind: str) -> trainer_pb2.ModelPackage:
    """A package that must not be served."""
    good = await package(house, 3)
    if kind == "unsigned":
        return unsigned(good)
    if kind == "of a stranger":
        stranger = Signer.of_home(tmp_path / "elsewhere").sign(good.digest)
        return trainer_pb2.ModelPackage(digest=good.digest, signature=stranger.value, key_id=stranger.key_id)
    if kind == "signature of another":
        other = await package(house, 4)
        return trainer_pb2.ModelPackage(digest=good.digest, signature=other.signature, key_id=other.key_id)
    if kind == "altered":
        (file,) = (house.home / "objects" / "folders" / good.digest).glob("model.onnx")
        file.chmod(0o644)
        file.write_bytes(tiny.graph(9))
        return good
    if kind == "missing":
        signature = Signer.of_home(house.home).sign("0" * 64)
        return trainer_pb2.ModelPackage(digest="0" * 64, signature=signature.value, key_id=signature.key_id)
    files = {
        "no graph": {**tiny.package_files(), "model.onnx": b"nothing"},
        "no card": {"model.onnx": tiny.graph()},
        "another format": tiny.package_files(format=7),
        "other classes": tiny.package_files(classes=["one", "two"]),
        "another input": tiny.package_files(input={**tiny.card()["input"], "name": "picture"}),
        "another size": tiny.package_files(input={**tiny.card()["input"], "height": 5}),
        "another dtype": tiny.package_files(input={**tiny.card()["input"], "dtype": "float32"}),
        "another output": tiny.package_files(outputs={"logits": "scores"}),
        "another golden output": {**tiny.package_files(3), "golden.npz": tiny.golden(4)},
        "a damaged golden input": {**tiny.package_files(3), "golden.npz": b"nothing"},
    }[kind]
    return await tiny.store(house.objects, house.home, files)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unsigned", "not signed"),
        ("of a stranger", "not trusted"),
        ("signature of another", "does not fit"),
        ("altered", "does not hold the bytes"),
        ("missing", ""),
        ("no graph", "does not load"),
        ("no card", "has no model.json"),
        ("another format", "format"),
        ("other classes", "output 'logits'"),
        ("another input", "picture"),
        ("another size", "shape"),
        ("another dtype", "float32"),
        ("another output", "has no output"),
        ("another golden output", "output 'logits' differs by"),
        ("a damaged golden input", "golden.npz is no .npz file"),
    ],
)
async def test_a_version_that_must_not_load_leaves_the_old_one_and_says_why(
    tmp_path: Path, kind: str, reason: str
) -> None:
    async with serving(tmp_path) as house:
        one = await package(house, 1)
        await publish(house, 1, champion=("1", one))
        bad = await refused(house, tmp_path, kind)
        await publish(house, 2, champion=("2", bad), previous=("1", one))
        assert await answering(house) == "1"
        (failure,) = (change for change in house.deployments() if change.state == FAILED)
        assert (failure.version, list(failure.roles)) == ("2", ["champion"])
        assert failure.error
        assert reason in failure.error
        async with httpx.AsyncClient() as client:
            (shown,) = (await client.get(f"{house.http}/api/v1/models")).json()["models"]
        assert shown["aliases"]["champion"] == {"asked": "2", "serving": "1"}
        assert shown["problems"] == {"2": failure.error}


async def test_a_version_that_gives_what_its_golden_input_says_is_served(tmp_path: Path) -> None:
    async with serving(tmp_path) as house:
        files = {**tiny.package_files(1), "golden.npz": tiny.golden(1)}
        await publish(house, 1, champion=("1", await tiny.store(house.objects, tmp_path, files)))
        assert await answering(house) == "1"


async def test_unsigned_packages_load_when_the_setting_says_so_and_wrong_signatures_never(tmp_path: Path) -> None:
    async with serving(tmp_path, allow_unsigned=True) as house:
        good = await package(house, 1)
        await publish(house, 1, champion=("1", unsigned(good)))
        assert await answering(house) == "1"
        wrong = trainer_pb2.ModelPackage(digest=good.digest, signature="AAAA", key_id=good.key_id)
        await publish(house, 2, champion=("2", wrong))
        assert await answering(house) == "1"


async def test_a_graph_without_a_dynamic_batch_is_served_one_by_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as house:
        files = {"model.onnx": tiny.graph(1, batch=1), "model.json": json.dumps(tiny.card()).encode()}
        await publish(house, 1, champion=("1", await tiny.store(house.objects, tmp_path, files)))
        async with triton.InferenceServerClient(house.address) as client:
            answers = await asyncio.gather(*(client.infer("clothes", [image(IMAGES[:1])]) for _ in range(5)))
            assert all(
                answer.as_numpy("logits") == pytest.approx(logits(1, IMAGES[:1]), abs=1e-5) for answer in answers
            )
            assert (await client.get_model_config("clothes")).config.max_batch_size == 0


async def test_probabilities_are_served_without_energy(tmp_path: Path) -> None:
    async with serving(tmp_path) as house:
        card = tiny.card(outputs={"probabilities": "probabilities"})
        files = {"model.onnx": tiny.graph(1, scores="probabilities"), "model.json": json.dumps(card).encode()}
        await publish(house, 1, champion=("1", await tiny.store(house.objects, tmp_path, files)))
        async with triton.InferenceServerClient(house.address) as client:
            await client.infer("clothes", [image(IMAGES[:1])])
        await until(lambda: len(house.predictions()) == 1)
        features = house.predictions()[0].features
        assert (features.HasField("energy"), len(features.projections)) == (False, 0)
        assert np.isclose(sum(score.score for score in house.predictions()[0].scores), 1)


async def test_a_folders_model_is_told_of_and_gives_way_to_registrys_of_the_same_name(tmp_path: Path) -> None:
    for name, seed in (("clothes", 5), ("parts", 6)):
        place = tmp_path / "models" / name / "9"
        await asyncio.to_thread(place.mkdir, parents=True)
        await asyncio.to_thread((place / "model.onnx").write_bytes, tiny.graph(seed))
    folder = str(tmp_path / "models")
    async with serving(tmp_path, model_repository=folder, model_control="explicit", load_models=("*",)) as house:
        assert await answering(house) == "9"
        await until(lambda: len(house.deployments()) == 2)
        said = [(change.model, change.version, change.state, tuple(change.roles)) for change in house.deployments()]
        assert said == [("clothes", "9", LOADED, ("champion",)), ("parts", "9", LOADED, ("champion",))]
        displaced = house.table.resolve("clothes")
        await publish(house, 1, champion=("1", await package(house, 1)))
        assert await answering(house) == "1"
        with pytest.raises(Overloaded):
            displaced.runner.hold().__enter__()
        said = [(change.model, change.version, change.state, tuple(change.roles)) for change in house.deployments()[2:]]
        assert said == [("clothes", "1", LOADED, ("champion",)), ("clothes", "9", UNLOADED, ())]
        async with triton.InferenceServerClient(house.address) as client:
            with pytest.raises(InferenceServerException, match="registry has a model 'clothes'"):
                await client.load_model("clothes")
            index = {(one.name, one.version, one.state) for one in (await client.get_model_repository_index()).models}
            assert {("clothes", "1", "READY"), ("clothes", "", "UNAVAILABLE"), ("parts", "9", "READY")} == index
        assert await answering(house) == "1"
