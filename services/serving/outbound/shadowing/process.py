"""Serving's side of the shadow process: starts it while a rollout wants it, feeds it, and takes its answers."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Final

from services.common.telemetry import log
from services.serving.domain.notes import SHADOW, Comparison, Notes
from services.serving.domain.routes import RouteTable, Version
from services.serving.domain.work import Arrays
from services.serving.outbound.child import ended, keep
from services.serving.outbound.shadowing.ring import Ring, shared_file
from services.serving.outbound.shadowing.wire import ASK, MOST_LAYOUT, Answered, Layout, answered

LOOK_S: Final = 0.25
"""Between two looks at whether a rollout wants it."""
MOST_WAITING: Final = 64
"""Calls that wait to be compared: more would not be compared sooner on a machine that has no time for them."""
MOST_LAYOUTS: Final = 1024
READ_BYTES: Final = 1 << 18
LAST_S: Final = 1.0


class ShadowProcess:
    """Implements `Beside`; `run` keeps the child while it is wanted."""

    def __init__(
        self,
        table: Callable[[], RouteTable],
        notes: Notes,
        compared: Callable[[str], None],
        objects: str,
        ring_bytes: int,
    ) -> None:
        """`compared` is told of each comparison's rollout; `objects`: the store's address, from which the child loads
        versions; `ring_bytes`: tensors that may wait.
        """
        self._objects = objects
        self._table = table
        self._notes = notes
        self._compared = compared
        self._ring_bytes = ring_bytes
        self._lock = threading.Lock()
        self._tokens = count()
        self._waiting: dict[int, Comparison] = {}
        self._layouts: dict[tuple[object, ...], bytes] = {}
        self._ring: Ring | None = None
        self._questions = -1
        self.pid = 0
        """Of the child; 0 while there is none."""

    def offer(self, comparison: Comparison) -> None:
        """Put it into the ring; left out when that is full, or the child is not there yet."""
        inputs = comparison.inputs
        layout = self._layout(comparison.version, inputs)
        with self._lock:
            if self._ring is None or layout is None or len(self._waiting) >= MOST_WAITING:
                return
            place = self._ring.put(list(inputs.values()))
            if place is None:
                return
            token = next(self._tokens)
            self._waiting[token] = replace(comparison, inputs={})
            try:
                os.write(self._questions, ASK.pack(len(layout), token, *place) + layout)
            except OSError:  # the pipe is full, or the child is gone
                del self._waiting[token]
                self._ring.take_back()

    def _layout(self, version: Version, inputs: Arrays) -> bytes | None:
        """The same for all calls of one shape; None for what cannot be shared: text, or a version without a package."""
        key = (version.digest, *((name, array.dtype, array.shape) for name, array in inputs.items()))
        found = self._layouts.get(key)
        if found is None and version.card is not None and version.digest:
            if any(array.dtype.hasobject for array in inputs.values()):
                return None
            if len(self._layouts) > MOST_LAYOUTS:
                self._layouts.clear()
            described = tuple((name, array.dtype.str, array.shape) for name, array in inputs.items())
            outputs = tuple(filter(None, version.card.outputs))
            found = self._layouts[key] = Layout(version.digest, outputs, described).encoded()
        return found if found is not None and len(found) <= MOST_LAYOUT else None

    async def run(self) -> None:
        """Until cancelled."""
        await keep(SHADOW, self._live)

    def _wanted(self) -> bool:
        return any(route.rollout is not None for route in self._table().routes.values())

    async def _live(self) -> bool:
        """One life of the child, from when it is wanted; True when it is wanted no more."""
        while not self._wanted():
            await asyncio.sleep(LOOK_S)
        descriptor = shared_file(self._ring_bytes)
        ours, theirs = _pipe()
        arguments = ("-m", "services.serving.outbound.shadowing", str(descriptor), str(self._ring_bytes), self._objects)
        try:
            ring = Ring(descriptor, self._ring_bytes)
            child = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdin=theirs, stdout=asyncio.subprocess.PIPE, pass_fds=(descriptor,)
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
            os.close(descriptor)
        with self._lock:
            self._ring, self._questions, self.pid = ring, ours, child.pid
        log.info("shadow_process_started", pid=child.pid)
        try:
            return await self._listen(child, ring)
        finally:
            await self._part(child, ours)

    async def _listen(self, child: asyncio.subprocess.Process, ring: Ring) -> bool:
        """Take answers until the child ends, or is wanted no more."""
        assert child.stdout is not None
        waiting = bytearray()
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    data = await child.stdout.read(READ_BYTES)
            except TimeoutError:
                if self._wanted():
                    continue
                return True
            if not data:
                return False
            waiting += data
            for answer in answered(waiting):
                self._take(answer, ring)

    def _take(self, answer: Answered, ring: Ring) -> None:
        with self._lock:
            ring.free(answer.freed)
            comparison = self._waiting.pop(answer.token, None)
        if comparison is None:
            return
        self._compared(comparison.about.rollout_id)
        about = comparison.about
        latency_ns = 0  # at idle priority it says nothing about the version
        self._notes.note(
            replace(
                about, version=comparison.version, outputs=answer.outputs, latency_ns=latency_ns, error=answer.error
            )
        )

    async def _part(self, child: asyncio.subprocess.Process, questions: int) -> None:
        with self._lock:
            self._ring, self._questions, self.pid = None, -1, 0
            self._waiting.clear()
        os.close(questions)  # the child ends when its questions do
        await ended(child, LAST_S)


def _pipe() -> tuple[int, int]:
    """(our end, which never blocks; the child's)."""
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    return ours, theirs
