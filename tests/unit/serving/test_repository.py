"""A model folder under its three kinds of control; the folder itself is a fake, the route table is real."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from services.serving.domain.config import ModelConfig
from services.serving.domain.ports import FolderModel, Inline
from services.serving.domain.routes import Routes, Version
from services.serving.domain.statistics import Statistics
from services.serving.domain.work import Work
from services.serving.errors import BadPackage, LoadFailed, NotAllowed, NotPolled, UnknownModel
from services.serving.handlers.repository import Control, Repository


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
        async with asyncio.timeout(10):
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
