"""A model folder under its three kinds of control; the folder itself is a fake, the route table is real."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from services.common.errors import Unavailable
from services.serving.domain.config import ModelConfig
from services.serving.domain.ports import Deployment, FolderModel, Inline
from services.serving.domain.routes import Route, Routes, Version
from services.serving.domain.statistics import Statistics
from services.serving.domain.work import Work
from services.serving.errors import BadPackage, LoadFailed, NameTaken, NotAllowed, NotPolled, UnknownModel
from services.serving.handlers.deployments import Deployments
from services.serving.handlers.repository import Control, Repository
from tests.waiting import PATIENCE_S


class Idle:
    """A runner that remembers whether it was retired or closed."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        self.pending = 0
        self.ended = ""

    def submit(self, work: Work, inline: Inline | None = None) -> None:
        raise AssertionError("nothing is run here")

    @contextmanager
    def hold(self) -> Iterator[None]:
        yield

    def retire(self) -> None:
        self.ended = "retired"

    async def close(self) -> None:
        self.ended = "closed"


class Shelf:
    """A folder in memory: {model: {version: content}}; content `broken` does not load."""

    def __init__(self, **models: dict[str, str]) -> None:
        self.models = models
        self.ensembles: dict[str, tuple[str, ...]] = {}
        self.loads: list[str] = []

    async def names(self) -> Sequence[str]:
        return sorted(self.models)

    async def state(self, model: str) -> str:
        return str(self.models[model])

    async def members(self, model: str, override: str) -> Sequence[str]:
        return self.ensembles.get(model, ())

    async def load(
        self, model: str, present: Mapping[str, Version], override: str, files: Mapping[str, bytes]
    ) -> FolderModel:
        if model not in self.models:
            raise UnknownModel(model)
        self.loads.append(model)
        problems = {name: "broken" for name, content in self.models[model].items() if content == "broken"}
        versions = {
            name: known if (known := present.get(name)) and known.digest == content else made(model, name, content)
            for name, content in self.models[model].items()
            if content != "broken"
        }
        return FolderModel(model, await self.state(model), versions, problems, self.ensembles.get(model, ()))


def made(model: str, name: str, content: str) -> Version:
    config = ModelConfig(model, "onnxruntime", 0, (), ())
    return Version(model, name, config, Idle(), digest=content)


def repository(shelf: Shelf, control: Control = "explicit", wanted: Sequence[str] = ()) -> tuple[Repository, Routes]:
    routes = Routes()
    return Repository(shelf, routes, control, wanted, poll_s=0.01), routes


def ended(version: Version) -> str:
    assert isinstance(version.runner, Idle)
    return version.runner.ended


async def test_all_models_are_loaded_at_the_start_and_a_broken_one_hurts_no_other() -> None:
    one, routes = repository(Shelf(good={"1": "a", "3": "b"}, bad={"1": "broken"}), "none")
    async with one:
        good = routes.table.resolve("good")
        assert (good.name, sorted(routes.table.routes["good"].versions)) == ("3", ["1", "3"])
        assert routes.table.routes["bad"].problems == {"1": "broken"}
        assert one.failed() == "models that did not load: bad"
        with pytest.raises(NotAllowed):
            await one.load("good", "", {})
    assert ended(good) == "closed"
    assert routes.table.routes == {}


async def test_explicit_control_loads_only_what_was_named_and_what_is_asked_for() -> None:
    one, routes = repository(Shelf(a={"1": "x"}, b={"1": "x"}, c={"1": "x"}), wanted=["b"])
    async with one:
        assert sorted(routes.table.routes) == ["b"]
        assert [(entry.name, entry.state) for entry in one.index()] == [("a", ""), ("c", "")]
        await one.load("a", "", {})
        assert sorted(routes.table.routes) == ["a", "b"]
        with pytest.raises(NotPolled, match="failed to load 'z', failed to poll from model repository"):
            await one.load("z", "", {})


async def test_a_version_that_fails_leaves_the_one_that_served_before() -> None:
    shelf = Shelf(a={"1": "x"})
    one, routes = repository(shelf)
    async with one:
        await one.load("a", "", {})
        before = routes.table.resolve("a")
        shelf.models["a"] = {"1": "broken"}
        with pytest.raises(LoadFailed, match="version 1 is at UNAVAILABLE state: broken"):
            await one.load("a", "", {})
        assert routes.table.resolve("a") is before
        assert ended(before) == ""


async def test_only_versions_that_changed_are_loaded_again() -> None:
    shelf = Shelf(a={"1": "x", "2": "y"})
    one, routes = repository(shelf)
    async with one:
        await one.load("a", "", {})
        first, second = (routes.table.resolve("a", name) for name in ("1", "2"))
        shelf.models["a"] = {"1": "x", "2": "z"}
        await one.load("a", "", {})
        assert routes.table.resolve("a", "1") is first
        assert routes.table.resolve("a", "2") is not second
        assert (ended(first), ended(second)) == ("", "retired")


async def test_an_unloaded_model_stays_in_the_index_and_answers_no_more() -> None:
    one, routes = repository(Shelf(a={"1": "x"}), wanted=["*"])
    async with one:
        version = routes.table.resolve("a")
        await one.unload("a", dependents=False)
        assert ended(version) == "retired"
        assert [(e.name, e.version, e.state, e.reason) for e in one.index()] == [("a", "1", "UNAVAILABLE", "unloaded")]
        await one.unload("z", dependents=False)


async def test_an_ensemble_brings_its_members_and_takes_them_along_when_asked() -> None:
    shelf = Shelf(both={"1": "e"}, left={"1": "x"}, right={"1": "x"})
    shelf.ensembles["both"] = ("left", "right")
    one, routes = repository(shelf)
    async with one:
        await one.load("both", "", {})
        assert shelf.loads == ["left", "right", "both"]
        await one.unload("both", dependents=True)
        assert routes.table.routes == {}


async def test_ensembles_in_a_circle_are_refused() -> None:
    shelf = Shelf(a={"1": "e"}, b={"1": "e"})
    shelf.ensembles |= {"a": ("b",), "b": ("a",)}
    one, _ = repository(shelf)
    async with one:
        with pytest.raises(LoadFailed, match="circle"):
            await one.load("a", "", {})


async def test_polling_follows_what_appears_changes_and_goes() -> None:
    shelf = Shelf(a={"1": "x"}, b={"1": "x"})
    one, routes = repository(shelf, "poll")
    async with one, asyncio.TaskGroup() as group:
        polling = group.create_task(one.run())
        shelf.models = {"a": {"1": "x", "2": "y"}, "c": {"1": "x"}}
        async with asyncio.timeout(PATIENCE_S):
            while sorted(routes.table.routes) != ["a", "c"] or routes.table.resolve("a").name != "2":
                await asyncio.sleep(0.005)
        polling.cancel()
    assert set(shelf.loads) == {"a", "b", "c"}


async def test_a_configuration_that_cannot_be_read_is_said_once_and_clearly() -> None:
    class Unreadable(Shelf):
        async def members(self, model: str, override: str) -> Sequence[str]:
            raise BadPackage("config.pbtxt: line 3")

    one, _ = repository(Unreadable(a={"1": "broken"}))
    async with one:
        with pytest.raises(LoadFailed, match="broken"):
            await one.load("a", "", {})


class Told:
    """Implements `Announcer`; it can be away."""

    def __init__(self) -> None:
        self.said: list[Deployment] = []
        self.away = False

    async def announce(self, changes: Sequence[Deployment]) -> None:
        if self.away:
            raise Unavailable("Kafka is away")
        self.said += changes

    def words(self) -> list[tuple[str, str, str, tuple[str, ...]]]:
        found = [(one.model, one.version, str(one.state), one.roles) for one in self.said]
        self.said.clear()
        return found


def telling(shelf: Shelf, control: Control = "explicit") -> tuple[Repository, Routes, Told, Deployments]:
    routes, told = Routes(), Told()
    deployments = Deployments(told, partial(datetime.now, UTC))
    return Repository(shelf, routes, control, ["*"], 0.01, deployments=deployments), routes, told, deployments


async def test_what_is_loaded_swapped_and_unloaded_is_told() -> None:
    shelf = Shelf(a={"1": "x", "2": "y"})
    one, _, told, deployments = telling(shelf)
    async with one:
        await deployments.flush()
        assert told.words() == [("a", "1", "loaded", ()), ("a", "2", "loaded", ("champion",))]
        shelf.models["a"] = {"1": "x", "2": "z", "3": "broken"}
        with pytest.raises(LoadFailed):
            await one.load("a", "", {})
        await deployments.flush()
        assert told.words() == [("a", "2", "loaded", ("champion",)), ("a", "3", "failed", ())]
        shelf.models["a"] = {"2": "broken"}
        with pytest.raises(LoadFailed):
            await one.load("a", "", {})
        await deployments.flush()
        assert [change.error for change in told.said] == ["broken; the one that served before goes on", ""]
        assert told.words() == [("a", "2", "failed", ()), ("a", "1", "unloaded", ())]
        await one.unload("a", dependents=False)
        await deployments.flush()
        assert told.words() == [("a", "2", "unloaded", ())]


async def test_what_is_loaded_while_kafka_is_away_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.serving.handlers.deployments.RETRY_S", 0.01)
    one, routes, told, deployments = telling(Shelf(a={"1": "x"}))
    told.away = True
    async with one, asyncio.TaskGroup() as group:
        telling_task = group.create_task(deployments.run())
        await asyncio.sleep(0.05)
        assert routes.table.resolve("a").name == "1"
        told.away = False
        async with asyncio.timeout(PATIENCE_S):
            while not told.said:
                await asyncio.sleep(0.005)
        telling_task.cancel()
    assert told.words() == [("a", "1", "loaded", ("champion",))]


def of_registry(model: str, name: str = "7") -> Route:
    version = made(model, name, "registry's")
    return Route(model, revision=1, versions={name: version}, default=version)


async def test_a_model_of_registrys_name_is_refused_and_registrys_goes_on() -> None:
    shelf = Shelf(a={"1": "x"}, b={"1": "x"})
    one, routes, told, deployments = telling(shelf)
    routes.put(of_registry("a"))
    async with one:
        with pytest.raises(NameTaken, match="registry has a model 'a', so the folder's of that name is not served"):
            await one.load("a", "", {})
        with pytest.raises(NotAllowed, match="registry decides"):
            await one.unload("a", dependents=False)
        assert routes.table.resolve("a").name == "7"
        assert one.failed() == "models that did not load: a"
        (entry,) = one.index()
        assert (entry.name, entry.state) == ("a", "UNAVAILABLE")
        assert "rename it in the folder" in entry.reason
        await deployments.flush()
        assert {model for model, *_ in told.words()} == {"b"}
    assert sorted(routes.table.routes) == ["a"], "registry's own is closed by who holds it"


async def test_polling_leaves_registrys_model_alone_and_says_it_once() -> None:
    shelf = Shelf(a={"1": "x"})
    one, routes, _, _ = telling(shelf, "poll")
    async with one, asyncio.TaskGroup() as group:
        routes.put(of_registry("a"))  # which comes a moment later than the folder
        polling = group.create_task(one.run())
        shelf.models = {"a": {"1": "y"}, "b": {"1": "x"}}
        async with asyncio.timeout(PATIENCE_S):
            while "b" not in routes.table.routes:
                await asyncio.sleep(0.005)
        del shelf.models["a"]
        async with asyncio.timeout(PATIENCE_S):
            while "a" in one._states:
                await asyncio.sleep(0.005)
        assert routes.table.resolve("a").name == "7"
        polling.cancel()


async def test_registry_that_comes_while_a_folder_loads_keeps_the_name() -> None:
    class Slow(Shelf):
        async def load(self, model: str, *rest: Any) -> FolderModel:
            found = await super().load(model, *rest)
            if model == "a":
                routes.put(of_registry("a"))
            return found

    one, routes, _, _ = telling(Slow())
    shelf = one._folder
    assert isinstance(shelf, Slow)
    async with one:
        shelf.models["a"] = {"1": "x"}
        with pytest.raises(NameTaken):
            await one.load("a", "", {})
        assert routes.table.resolve("a").name == "7"
