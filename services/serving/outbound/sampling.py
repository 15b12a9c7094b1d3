"""Inputs of clients' calls on their way to ingest: chosen in the thread that writes the spool, long after the answer,
and put raw into a spool of their own, from which another process encodes and publishes them.

Every place where they wait is bounded, and what finds no room is counted; predictions never wait for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Final

import numpy as np
from irisloop.topics import FRAME_CAPTURED

from services.common.metrics import SERVING_INPUTS_MISSED, SERVING_INPUTS_SAMPLED
from services.common.telemetry import log
from services.serving.domain.features import confidences
from services.serving.domain.notes import Note
from services.serving.domain.sampling import Chosen, Inputs, Missing, Policy, Rule, choose
from services.serving.domain.tensors import Array
from services.serving.outbound.notation import Group, prediction_id
from services.serving.outbound.sampled import Sample, encoded_sample, weight
from services.serving.outbound.spool import Place, SpoolWriter, position

SAMPLES: Final = "samples"
"""The spool's folder, in that of the predictions."""
MEMORY_BYTES: Final = 64 << 20
"""Inputs of calls that are not yet chosen or passed over: some 50 ms of them."""
LARGEST: Final = FRAME_CAPTURED.max_message_bytes - (64 << 10)
"""An encoded image, bytes."""
LARGEST_PIXELS: Final = 4 * LARGEST
"""Pixels that are yet to be encoded, bytes: few photographs shrink more without loss."""


class Sampling:
    """Used by `DirectEvents`: `admit` from any thread, the rest one call at a time."""

    def __init__(
        self,
        policy: Policy,
        drifting: Callable[[str], bool],
        folder: Path,
        limit_bytes: int,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """`drifting` says of a model whether drift is reported; `folder`, `limit_bytes`: of the predictions' spool, and
        of the samples in it.
        """
        self._policy = policy
        self._drifting = drifting
        self._folder = folder / SAMPLES
        self._limit = limit_bytes
        self._spool: SpoolWriter | None = None
        self._place, self._given_up = Place(0, 0), 0
        self._memory = memory_bytes
        self._held = 0
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the spool, or open what a process before left."""
        self._spool = SpoolWriter(self._folder, self._limit, weight)
        self._place = position(self._folder)

    def admit(self, note: Note) -> Note:
        """The note, without its inputs when too many wait."""
        if note.inputs is None:
            return note
        size = note.inputs.size
        with self._lock:
            if self._held + size <= self._memory:
                self._held += size
                return note
        return replace(note, inputs=Inputs(missing="no_memory"))

    def release(self, notes: Sequence[Note]) -> None:
        """They were taken, or dropped."""
        size = sum(note.inputs.size for note in notes if note.inputs is not None)
        with self._lock:
            self._held -= size

    def take(self, groups: Sequence[Group]) -> None:
        """Choose, and write what is chosen; never raises: the predictions are on disk already."""
        assert self._spool is not None
        records: list[bytes] = []
        try:
            for group in groups:
                records += self._records(group)
            self._spool.append(records)
        except Exception as error:
            _count("no_disk", len(records))
            log.error("samples_not_written", dropped=len(records), error=repr(error))

    def look(self) -> None:
        """Count what was published, refused and given up."""
        assert self._spool is not None
        place, before = position(self._folder), self._place
        SERVING_INPUTS_SAMPLED.inc(max(place.done - before.done, 0))
        _count("refused", max(place.lost - before.lost, 0))
        _count("no_disk", self._spool.given_up - self._given_up)
        self._place, self._given_up = place, self._spool.given_up

    def _records(self, group: Group) -> Iterator[bytes]:
        notes = group.notes
        if all(note.inputs is None for note in notes):
            return
        version = notes[0].version
        rule, drifting = self._policy.rule(version.model), self._drifting(version.model)
        applied = [rule.shares(unsure=unsure, drifting=drifting) for unsure in (False, True)]
        rows = ((note, row) for note in notes for row in range(note.rows))
        for place, ((note, row), unsure) in enumerate(zip(rows, _unsure(rule, notes), strict=False)):
            if note.inputs is not None and (shares := applied[unsure]):
                identity = prediction_id(group.identity, place)
                chosen = choose(identity, shares)
                if chosen is not None:
                    yield from _kept(note, note.inputs, row, identity, chosen)


def _unsure(rule: Rule, notes: Sequence[Note]) -> Iterable[bool]:
    """Of each row; of none where the rule does not ask, or the model does not say."""
    card = notes[0].version.card
    if not rule.low_share or card is None or card.detection is not None or not notes[0].outputs:
        return repeat(False)
    return rule.unsure(confidences(card, np.concatenate([note.outputs[card.scores] for note in notes])))


def _kept(note: Note, inputs: Inputs, row: int, identity: str, chosen: Chosen) -> Iterator[bytes]:
    """Records of the images that the prediction is about: one, or all where a call has a single prediction."""
    if inputs.missing is not None:
        _count(inputs.missing, 1)
        return
    images: Sequence[bytes] | Array = inputs.encoded or _rows(note, inputs)
    for place in [row] if len(images) == note.rows else range(len(images)):
        image = images[place]
        data = image if isinstance(image, bytes) else image.tobytes()
        if len(data) > (LARGEST if isinstance(image, bytes) else LARGEST_PIXELS):
            _count("too_large", 1)
            continue
        about = Sample(
            identity,
            place,
            note.version.model,
            note.version.name,
            chosen.propensity,
            chosen.reasons,
            note.arrived_at_ns,
            note.traceparent,
            () if isinstance(image, bytes) else image.shape,
            note.version.image.layout if note.version.image else "",
        )
        yield encoded_sample(about, data)


def _rows(note: Note, inputs: Inputs) -> Array:
    """The tensor as [N, ...], also where the model takes it without a batch."""
    assert inputs.tensor is not None and note.version.image is not None
    return inputs.tensor.reshape(-1, *note.version.image.shape(1)[1:])


def _count(reason: Missing, count: int) -> None:
    SERVING_INPUTS_MISSED.labels(reason).inc(count)
