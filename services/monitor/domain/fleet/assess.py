"""The assessment of each camera as the fleet's stage sees it, said when it changes, for programs beside the monitor."""

from __future__ import annotations

from collections.abc import Iterator

from services.monitor.domain.events import Assessed, State
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.model import ModelWatch

_CHANNELS = 4


def assess(watch: ModelWatch, board: Board, now: float) -> Iterator[Assessed]:
    """Cameras whose state or incident has changed since it was last said."""
    explained = watch.explained()
    for name in sorted(watch.cameras):
        camera = watch.cameras[name]
        case = explained.get(name)
        word = (int(camera.state), case.id if case else "")
        if camera.state is State.LEARNING or word == camera.assessed:
            continue
        camera.assessed = word
        labels = tuple(sorted(board.labels(name).items()))
        trace = camera.trigger[1] if camera.state >= State.ALARM else ""
        evidence = camera.evidence(_CHANNELS) if camera.state >= State.WARN else ()
        yield Assessed(
            now, trace, watch.model, watch.version, name, camera.state, camera.steps, labels, word[1], evidence
        )
