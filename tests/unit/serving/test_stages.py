"""Rollouts as serving applies them: who answers, what runs beside it, and what becomes of that."""

from __future__ import annotations

import os
import signal
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio as triton
from irisloop.registry.v1 import registry_pb2
from irisloop.serving.v1 import serving_pb2

from services.serving.domain.bindings import Binding
from services.serving.domain.rollout import place
from services.serving.domain.routes import CHAMPION
from tests.unit.serving import tiny
from tests.unit.serving.house import House, asset, camera, picture, serving
from tests.unit.serving.test_protocol import IMAGES, image, logits
from tests.unit.serving.test_stream import bind
from tests.waiting import until

SALT = "rollout-1"


def rollout_of(stage: int, *arms: tuple[str, str, float], version: str = "2") -> registry_pb2.Rollout:
    """From version 1 to another."""
    listed = [registry_pb2.Arm(name=name, version=arm, share=share) for name, arm, share in arms]
    return registry_pb2.Rollout(
        id="r-1",
        model="clothes",
        champion="1",
        challenger=version,
        stage=registry_pb2.Stage.ValueType(stage),
        arms=listed,
        salt=SALT,
    )


async def roll_out(house: House, revision: int, rollout: registry_pb2.Rollout | None, broken: bool = False) -> None:
    """Version 1 is champion, 2 the challenger, 3 a third."""
    seeds = {"1": 1, "2": 2, "3": 3}
    packages = {
        version: await tiny.store(house.objects, house.home, tiny.package_files(seed))
        for version, seed in seeds.items()
    }
    if broken:
        packages["2"] = await tiny.store(house.objects, house.home, {"model.json": b"{}", "model.onnx": b"no"})
    champion = ("1", packages["1"])
    said = tiny.rolling(revision, rollout, packages, champion=champion) if rollout else None
    await house.publish(said or tiny.aliases(revision, champion=champion))
    await until(lambda: house.revisions() == [revision])


async def ask(house: House, keys: Sequence[str], version: str = "") -> dict[str, str]:
    """Which version answered for each key; every answer is that version's own."""
    found: dict[str, str] = {}
    async with triton.InferenceServerClient(house.address) as client:
        for key in keys:
            answer = await client.infer("clothes", [image(IMAGES[:1])], version, headers={"irisloop-key": key})
            found[key] = answer.get_response().model_version
            wanted = logits(int(found[key]), IMAGES[:1])
            np.testing.assert_allclose(answer.as_numpy("logits"), wanted, atol=1e-4)
    return found


def pairs(house: House) -> dict[str, dict[str, serving_pb2.Prediction]]:
    """Predictions of a rollout by pair and version."""
    found: dict[str, dict[str, serving_pb2.Prediction]] = defaultdict(dict)
    for one in house.predictions():
        if one.rollout_id and one.pair_id:
            found[one.pair_id][one.version] = one
    return found


async def paired(house: House, count: int, keys: Sequence[str]) -> dict[str, dict[str, serving_pb2.Prediction]]:
    """Calls until so many pairs are whole: the child takes a moment to start."""

    def whole() -> int:
        return sum(len(pair) == 2 for pair in pairs(house).values())

    for _ in range(200):
        await ask(house, keys)
        with suppress(TimeoutError):
            await until(lambda: whole() >= count, 0.3)
            return pairs(house)
    raise AssertionError(f"{whole()} of {count} pairs")


async def test_in_shadow_the_champion_answers_all_and_the_challenger_is_compared(tmp_path: Path) -> None:
    async with serving(tmp_path) as house:
        await roll_out(house, 1, rollout_of(registry_pb2.STAGE_SHADOW))
        assert set((await ask(house, [f"k{n}" for n in range(20)])).values()) == {"1"}
        found = await paired(house, 5, [f"k{n}" for n in range(20)])
        for pair in found.values():
            if len(pair) == 2:
                assert (pair["1"].role, pair["2"].role) == ("direct", "shadow")
                assert {one.rollout_id for one in pair.values()} == {"r-1"}
                best = [tiny.CLASSES[int(np.argmax(logits(seed, IMAGES[:1])))] for seed in (1, 2)]
                assert [pair[version].scores[0].class_name for version in ("1", "2")] == best
        assert Counter(len(pair) for pair in found.values())[2] >= 5
        (applied,) = await house.rollouts()
        assert 5 <= applied.compared <= applied.offered


async def test_a_canary_answers_for_its_keys_and_the_champion_runs_beside_it(tmp_path: Path) -> None:
    keys = [f"key-{number}" for number in range(60)]
    async with serving(tmp_path) as house:
        await roll_out(house, 1, rollout_of(registry_pb2.STAGE_CANARY, ("canary", "2", 0.25)))
        before = await ask(house, keys)
        assert before == {key: "2" if place(SALT, key) < 0.25 else "1" for key in keys}
        await roll_out(house, 2, rollout_of(registry_pb2.STAGE_CANARY, ("canary", "2", 0.5)))
        after = await ask(house, keys)
        moved = {key for key in keys if before[key] != after[key]}
        assert moved and all(before[key] == "1" for key in moved)
        mine = [key for key in keys if after[key] == "2"][:5]
        for pair in (await paired(house, 3, mine)).values():
            assert pair["2"].role == "canary"
            assert "1" not in pair or pair["1"].role == "shadow"
        await roll_out(house, 3, None)
        assert set((await ask(house, keys)).values()) == {"1"}


async def test_a_version_that_the_call_names_is_never_exchanged(tmp_path: Path) -> None:
    async with serving(tmp_path) as house:
        await roll_out(house, 1, rollout_of(registry_pb2.STAGE_CANARY, ("canary", "2", 1.0)))
        assert set((await ask(house, ["a", "b"])).values()) == {"2"}
        assert set((await ask(house, ["a", "b"], "1")).values()) == {"1"}


async def test_an_experiments_arms_answer_under_their_names(tmp_path: Path) -> None:
    keys = [f"key-{number}" for number in range(90)]
    arms = (("warm", "2", 0.3), ("cold", "3", 0.3))
    async with serving(tmp_path) as house:
        await roll_out(house, 1, rollout_of(registry_pb2.STAGE_EXPERIMENT, *arms, version=""))
        found = await ask(house, keys)
        assert min(Counter(found.values()).values()) > 10
        await until(lambda: len(house.predictions()) >= len(keys))
        roles = {one.version: one.role for one in house.predictions()}
        assert roles == {"1": "direct", "2": "warm", "3": "cold"}


async def test_a_challenger_that_does_not_load_leaves_its_keys_to_the_champion_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as house:
        await roll_out(house, 1, rollout_of(registry_pb2.STAGE_CANARY, ("canary", "2", 1.0)), broken=True)
        assert set((await ask(house, ["a", "b", "c"])).values()) == {"1"}
        failed = [change for change in house.deployments() if change.state == serving_pb2.DEPLOYMENT_STATE_FAILED]
        assert [(change.version, bool(change.error)) for change in failed] == [("2", True)]


async def test_on_a_canarys_cameras_both_versions_predict_the_same_asset(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", CHAMPION, ("*",)))
    cameras = [f"gate-{number}" for number in range(6)]
    async with serving(tmp_path) as house:
        await house.publish(*(camera(name) for name in cameras))
        await until(lambda: len(house.cameras("clothes")) == len(cameras))
        await roll_out(house, 1, rollout_of(registry_pb2.STAGE_CANARY, ("canary", "2", 0.3)))
        digest = await house.objects.put(picture(1))
        await house.publish(*(asset(number, digest, name) for number, name in enumerate(cameras)))
        await until(lambda: len(house.predictions()) >= 8)
        await house.quiet()
        roles = Counter((one.role, one.version) for one in house.predictions())
        assert roles == {("champion", "1"): 6, ("canary", "2"): 2}
        both = {one.camera_id for one in house.predictions() if one.role == "canary"}
        assert both == set(sorted(cameras, key=lambda name: place(SALT, name))[:2])
        for pair in pairs(house).values():
            assert set(pair) == {"1", "2"} and pair["2"].pair_id == pair["1"].asset_id
        (applied,) = await house.rollouts()
        assert (applied.rollout_id, applied.offered, applied.compared) == ("r-1", 2, 2)
        assert [(arm.name, arm.keys, round(arm.share_real, 3)) for arm in applied.arms] == [("canary", 6, 0.333)]


async def test_a_killed_shadow_process_costs_no_answer_and_comes_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as house:
        await roll_out(house, 1, rollout_of(registry_pb2.STAGE_SHADOW))
        await paired(house, 1, ["a"])
        os.kill(house.shadow_pid(), signal.SIGKILL)
        count = sum(len(pair) == 2 for pair in pairs(house).values())
        assert (await ask(house, ["a", "b"])) == {"a": "1", "b": "1"}
        await paired(house, count + 3, ["a", "b"])


async def test_cameras_of_a_binding_follow_bindings_and_tags(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", CHAMPION, (), {"site": "north"}))
    async with serving(tmp_path) as house:
        await house.publish(camera("a", site="north"), camera("b", site="south"))
        await until(lambda: house.cameras("clothes") == ["a"])
        assert house.cameras("clothes") is house.cameras("clothes")
        await house.publish(camera("a", site="south"), camera("b", site="north"))
        await until(lambda: house.cameras("clothes") == ["b"])
        await bind(tmp_path, Binding("clothes", CHAMPION, ("*",)))
        await until(lambda: house.cameras("clothes") == ["a", "b"])
