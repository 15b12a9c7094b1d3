"""How much of the state is written, so that the next start need not read for ever."""

from __future__ import annotations

import pytest

from services.monitor.domain import pieces
from services.monitor.domain.engine import Engine
from services.monitor.domain.pieces import KEYFRAME, Snapshots, rebuild
from tests.unit.monitor.worlds import World, policy


def snapshots(steps: int) -> tuple[Engine, list[list[tuple[str, bytes]]]]:
    """An engine, and what is written after each batch of a world."""
    engine, writer, written = Engine.new(policy()), Snapshots(), []
    for number, batch in enumerate(World(3, frames=20 * steps).inputs()):
        if number == steps:
            break
        engine.feed(batch)
        written.append(writer.changed(engine))
    return engine, written


def whole(piece: list[tuple[str, bytes]]) -> bool:
    return piece[0][0] == KEYFRAME


def test_everything_is_written_anew_before_a_start_has_to_read_much_more_than_the_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pieces, "_LEAST", 0)
    engine, written = snapshots(150)
    begins = [number for number, one in enumerate(written) if whole(one)]
    assert 2 < len(begins) < 75
    for begin, end in zip(begins, [*begins[1:], len(written)], strict=True):
        since = [sum(len(state) for _, state in one) for one in written[begin:end]]
        assert sum(since[1:-1]) <= pieces._SHARE * since[0]
    again = Engine.new(policy())
    rebuild(again, {key: state for one in written[begins[-1] :] for key, state in one})
    assert dict(Snapshots().changed(again)) == dict(Snapshots().changed(engine))


def test_a_small_state_is_written_anew_seldom() -> None:
    _, written = snapshots(150)
    assert [number for number, one in enumerate(written) if whole(one)] == [0]
