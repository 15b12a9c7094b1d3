"""The state cut into pieces by key, so that what has not changed need not be written again.

@keyframe                 everything that is needed has been written since
@merge                    how far each partition was read, the last tick, the clock, the names of the models
@fleet                    the cameras' labels, planned changes, commands carried out
@truth                    what became of the labels, and where the horizon lies
@truth/<bucket>           labels and predictions that metrics are counted from, in 512 buckets by asset
@traffic                  which hours of predictions are counted
@traffic/<slot>           predictions of an hour by version and camera
<model>                   a model without what follows
<model>@history           its incidents and decisions
<model>@labels/<slot>     its labels, 64 to a piece
<model>@past              how many of older ones were wrong
<model>@challenge         a rollout on trial without its pairs
<model>@challenge/<slot>  its pairs, 256 to a piece
<model>@former            conditions of its closed incidents, and which former champions are known
<model>@former/<slot>     what was normal for one of these, by camera, in 8 slots
<model>@pool              what the cameras of its champion have in common
<model>@kept/<slot>...    pool and cameras of another version than the champion's, in 3 slots, each as here
<model>/<camera>          a camera without its trace and profile
<model>/<camera>@profile  what it is like by the time of day
<model>/<camera>@trace/<slot>    its trace, 16 blocks to a piece
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.challenge import pieces as trials
from services.monitor.domain.engine import Engine
from services.monitor.domain.former import Former
from services.monitor.domain.inputs import Input
from services.monitor.domain.labels import LabelBook
from services.monitor.domain.lineup import References
from services.monitor.domain.merge import Merger
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.quality import pieces as truths
from services.monitor.domain.snapshot import dump, load
from services.monitor.domain.ticks import Gate
from services.monitor.domain.trace import CAPACITY, Trace

KEYFRAME: Final = "@keyframe"
_MERGE: Final = "@merge"
_FLEET: Final = "@fleet"
_EVERY: Final = 200  # Snapshots between two that hold everything, ...
_SHARE: Final = 2  # ... or fewer, when so many times as much has been written since, ...
_LEAST: Final = 32 << 20  # ... and at least so many bytes: all of it is read at the next start.
_LABELS: Final = 64
_BLOCKS: Final = 16
_TRACE_SLOTS: Final = CAPACITY // _BLOCKS + 2


class Snapshots:
    """Says which pieces have changed since they were last written."""

    def __init__(self) -> None:
        """Nothing has been written yet."""
        self._stamps: dict[str, Any] = {}
        self._count = 0
        self._whole = 0
        self._since = 0

    def changed(self, engine: Engine) -> list[tuple[str, bytes]]:
        """(key, bytes) of what has to be written now; the first time and now and then it is everything."""
        whole = self._count % _EVERY == 0 or self._since > max(_SHARE * self._whole, _LEAST)
        if whole:
            self._stamps, self._count, self._since = {}, 0, 0
        self._count += 1
        pieces = [*([(KEYFRAME, b"")] if whole else ()), *self._changed(engine)]
        size = sum(len(state) for _, state in pieces)
        if whole:
            self._whole = size
        else:
            self._since += size
        return pieces

    def _changed(self, engine: Engine) -> list[tuple[str, bytes]]:
        pieces: list[tuple[str, bytes]] = []
        gate = [engine.gate.watermark, dict(sorted(engine.gate.ends.items())), engine.gate.late]
        pieces.append((_MERGE, dump([_ordered(engine.merger), engine.clock, engine.taken, list(engine.models), gate])))
        fleet = dump(engine.board)
        if self._is_new(_FLEET, fleet):
            pieces.append((_FLEET, fleet))
        for name, watch in engine.models.items():
            pieces += self._model(name, watch)
        pieces += [
            (key, dump(value()))
            for key, stamp, value in truths.cut(engine.truth, engine.traffic)
            if self._is_new(key, stamp)
        ]
        return pieces

    def _is_new(self, key: str, stamp: Any) -> bool:
        if self._stamps.get(key) == stamp:
            return False
        self._stamps[key] = stamp
        return True

    def _model(self, name: str, watch: ModelWatch) -> Iterator[tuple[str, bytes]]:
        bare = replace(
            watch,
            references=watch.references.bare(),
            kept=[replace(kept, references=kept.references.bare()) for kept in watch.kept],
            book=LabelBook(watch.book.capacity, {}, watch.book.count),
            incidents=[],
            decisions=[],
            trial=None,
            former=Former(),
        )
        floor = next(iter(watch.book.entries.values())).number if watch.book.entries else 0
        kept = [list(one.references.cameras) for one in watch.kept]
        yield name, dump([bare, list(watch.cameras), floor, kept])  # In their order: sums over cameras depend on it.
        if self._is_new(f"{name}@history", [*watch.incidents, *watch.decisions]):
            yield f"{name}@history", dump([watch.incidents, watch.decisions])
        if watch.book.past and self._is_new(f"{name}@past", watch.book.past[-1].stamp()):
            yield f"{name}@past", dump(watch.book.past)
        slots: dict[int, list[Any]] = {}
        for entry in watch.book.entries.values():
            slots.setdefault(entry.number // _LABELS, []).append(entry)
        for slot, entries in slots.items():
            key = f"{name}@labels/{slot % _label_slots(watch)}"
            if self._is_new(key, (slot, len(entries), entries[-1].number)):
                yield key, dump(entries)
        for suffix, stamp, value in trials.cut(watch.trial):
            if self._is_new(f"{name}@challenge{suffix}", stamp):
                yield f"{name}@challenge{suffix}", dump(value())
        yield from self._former(name, watch.former)
        yield from self._references(name, watch.version, watch.references)
        for one in watch.kept:
            yield from self._references(f"{name}@kept/{one.slot}", one.version, one.references)

    def _former(self, name: str, former: Former) -> Iterator[tuple[str, bytes]]:
        if self._is_new(f"{name}@former", former.changes):
            yield f"{name}@former", dump(former.bare())
        for one in former.homes:
            if self._is_new(f"{name}@former/{one.slot}", (one.version, one.left_at)):
                yield f"{name}@former/{one.slot}", dump(one.cameras)

    def _references(self, place: str, version: str, references: References) -> Iterator[tuple[str, bytes]]:
        if self._is_new(f"{place}@pool", (version, references.compared)):
            yield f"{place}@pool", dump([version, references.pool])
        for camera in references.cameras.values():
            yield from self._camera(f"{place}/{camera.camera_id}", version, camera)

    def _camera(self, key: str, version: str, camera: CameraWatch) -> Iterator[tuple[str, bytes]]:
        trace = camera.trace
        if self._is_new(key, (version, camera.frames, trace.generation, int(camera.state), camera.assessed)):
            bare = Trace(pinned=trace.pinned, first=trace.first, generation=trace.generation)
            yield key, dump([version, replace(camera, trace=bare, profile=None), len(trace.times)])
        profile = camera.profile
        if profile is not None and self._is_new(f"{key}@profile", (version, profile.since, profile.updates)):
            yield f"{key}@profile", dump([version, profile])
        end = trace.first + len(trace.times)
        for slot in range(trace.first // _BLOCKS, -(-end // _BLOCKS)):
            low, high = max(slot * _BLOCKS, trace.first), min((slot + 1) * _BLOCKS, end)
            place = f"{key}@trace/{slot % _TRACE_SLOTS}"
            if self._is_new(place, (version, trace.generation, slot, high, trace.times[high - trace.first - 1])):
                part = slice(low - trace.first, high - trace.first)
                yield (
                    place,
                    dump(
                        [
                            version,
                            trace.generation,
                            low,
                            trace.times[part],
                            trace.frames[part],
                            trace.means[part],
                            trace.spreads[part],
                        ]
                    ),
                )


def _ordered(merger: Merger) -> Merger:
    """The same, written alike however partitions were interleaved when they were read."""
    return replace(merger, fronts=dict(sorted(merger.fronts.items())), waiting=sorted(merger.waiting, key=_place))


def _place(waiting: tuple[float, str, int, Input]) -> tuple[float, str, int]:
    return waiting[:3]


def _label_slots(watch: ModelWatch) -> int:
    return watch.book.capacity // _LABELS + 2


def rebuild(engine: Engine, pieces: Mapping[str, bytes]) -> None:
    """Put the state back from the newest piece of each key; pieces of an earlier version or trace are left out."""
    if _MERGE not in pieces:
        return
    held = {key: load(piece) for key, piece in pieces.items() if truths.holds(key)}
    truths.join(held, engine.truth)
    truths.join_traffic(held, engine.traffic)
    engine.merger, engine.clock, engine.taken, names, *gate = load(pieces[_MERGE])
    if gate:
        engine.gate = Gate(*gate[0])
    else:  # Codec 1, where inputs that waited were part of the state: they wait in the merger.
        engine.gate = Gate(engine.merger.released)
    if _FLEET in pieces:
        engine.board = load(pieces[_FLEET])
    policy = engine.policy.merge
    engine.merger.lateness, engine.merger.idle = policy.lateness_seconds, policy.idle_seconds
    for name in names:
        watch, cameras, floor, *kept = load(pieces[name])
        watch.incidents, watch.decisions = load(pieces[f"{name}@history"])
        _rebuild_labels(name, watch, floor, pieces)
        watch.trial = trials.join(f"{name}@challenge", pieces)
        _rebuild_former(name, watch, pieces)
        _rebuild_cameras(name, watch.version, watch.references, cameras, pieces)
        for one, known in zip(watch.kept, *kept, strict=True) if kept else ():
            _rebuild_cameras(f"{name}@kept/{one.slot}", one.version, one.references, known, pieces)
        engine.models[name] = watch


def judged_until(pieces: Mapping[str, bytes]) -> tuple[float, dict[str, int]]:
    """Event time, and the next offset of each source, up to which the state of these pieces has judged; (0, nothing)
    for none, or codec 1.
    """
    gate = load(pieces[_MERGE])[4:] if _MERGE in pieces else []
    return (gate[0][0], dict(gate[0][1])) if gate else (0.0, {})


def _rebuild_labels(name: str, watch: ModelWatch, floor: int, pieces: Mapping[str, bytes]) -> None:
    found: list[Any] = []
    watch.book.past = load(pieces[f"{name}@past"]) if f"{name}@past" in pieces else []
    for slot in range(_label_slots(watch)):
        found += load(pieces[key]) if (key := f"{name}@labels/{slot}") in pieces else []
    for entry in sorted(found, key=lambda e: e.number):
        if floor <= entry.number:
            watch.book.entries.pop(entry.asset_id, None)
            watch.book.entries[entry.asset_id] = entry


def _rebuild_former(name: str, watch: ModelWatch, pieces: Mapping[str, bytes]) -> None:
    if f"{name}@former" in pieces:  # Codec 3 had none.
        watch.former = load(pieces[f"{name}@former"])
        for one in watch.former.homes:
            one.cameras = load(pieces[f"{name}@former/{one.slot}"])


def _rebuild_cameras(
    place: str, version: str, references: References, names: Iterable[str], pieces: Mapping[str, bytes]
) -> None:
    for camera_id in names:
        key = f"{place}/{camera_id}"
        known, camera, *blocks = load(pieces[key])
        if known == version:
            _rebuild_trace(key, version, camera.trace, blocks, pieces)
            _rebuild_profile(f"{key}@profile", version, camera, pieces)
            references.cameras[camera_id] = camera
    if f"{place}@pool" in pieces:
        known, pool = load(pieces[f"{place}@pool"])
        references.pool = pool if known == version else None


def _rebuild_profile(key: str, version: str, camera: CameraWatch, pieces: Mapping[str, bytes]) -> None:
    if camera.reference is not None and key in pieces:
        known, profile = load(pieces[key])
        camera.profile = profile if known == version else None


def _rebuild_trace(key: str, version: str, trace: Trace, blocks: Sequence[int], pieces: Mapping[str, bytes]) -> None:
    """`blocks`: how many it had, where that was written; what lies behind is of another that stood in its place."""
    parts = [load(pieces[k]) for slot in range(_TRACE_SLOTS) if (k := f"{key}@trace/{slot}") in pieces]
    parts = sorted((p for p in parts if p[:2] == [version, trace.generation]), key=lambda p: p[2])
    for _, _, low, times, frames, means, spreads in parts:
        skip = max(trace.first - low, 0)
        trace.times += times[skip:]
        trace.frames += frames[skip:]
        trace.means += means[skip:]
        trace.spreads += spreads[skip:]
    for most in blocks:
        for column in (trace.times, trace.frames, trace.means, trace.spreads):
            del column[most:]
