"""The shadow process: runs what it is asked at idle priority, and ends when serving does.

Started by `ShadowProcess` alone: questions on stdin, answers on stdout, the ring as a descriptor.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Final

from services.common.objects import ObjectStore
from services.serving.domain.package import GRAPH_FILE
from services.serving.domain.work import PLAIN
from services.serving.errors import InferenceFailed
from services.serving.outbound.backends.onnx import OnnxBackend, Options, import_runtime
from services.serving.outbound.child import step_back
from services.serving.outbound.shadowing.ring import RingReader
from services.serving.outbound.shadowing.wire import Answered, Layout, asked, encoded_answer

KEPT: Final = 2
"""Versions that stay loaded."""
READ_BYTES: Final = 1 << 16
SAID_BYTES: Final = 1 << 15
LINGER_S: Final = 0.02


class Runner:
    """Loads versions by their digest, when they are first asked for."""

    def __init__(self, objects: str, ring: RingReader) -> None:
        """`objects`: the store's address."""
        self._objects = objects
        self._ring = ring
        self._loaded: OrderedDict[str, OnnxBackend] = OrderedDict()

    def answer(self, token: int, offset: int, freed: int, layout: Layout) -> Answered:
        """Run it; that the model fails is said in words. A version that does not load here raises: it ran in serving,
        so the fault is not its own, and the process is started anew.
        """
        backend = self._backend(layout.digest)
        try:
            ((outputs, _),) = backend.run(self._ring.arrays(offset, layout.inputs), PLAIN)
            return Answered(token, freed, {name: outputs[name] for name in layout.outputs})
        except InferenceFailed as error:
            return Answered(token, freed, {}, str(error))

    def _backend(self, digest: str) -> OnnxBackend:
        if digest not in self._loaded:
            while len(self._loaded) >= KEPT:
                self._loaded.popitem(last=False)
            self._loaded[digest] = asyncio.run(self._open(digest))
        self._loaded.move_to_end(digest)
        return self._loaded[digest]

    async def _open(self, digest: str) -> OnnxBackend:
        """Serving has verified the package's signature; the store checks its digest again."""
        async with ObjectStore(self._objects) as objects:
            files = await objects.get_folder(digest)
        return OnnxBackend(files[GRAPH_FILE], Options(threads=1))


def serve(runner: Runner, questions: int, answers: int) -> None:
    """Until the questions end. It rests as long as it worked, since even idle priority takes caches and wake-ups from
    others; answers go together, since each time that serving wakes for them costs it the same.
    """
    waiting, said = bytearray(), bytearray()
    while data := os.read(questions, READ_BYTES):
        waiting += data
        began = time.perf_counter()
        for token, offset, freed, layout in asked(waiting):
            said += encoded_answer(runner.answer(token, offset, freed, layout))
            if len(said) > SAID_BYTES:
                _write(answers, said)
        time.sleep(time.perf_counter() - began)
        if said and not select.select([questions], [], [], LINGER_S)[0]:
            _write(answers, said)


def _write(answers: int, said: bytearray) -> None:
    view = memoryview(bytes(said))
    said.clear()
    while view:
        view = view[os.write(answers, view) :]


def main() -> None:
    """`python -m services.serving.outbound.shadowing DESCRIPTOR SIZE OBJECTS`."""
    step_back()
    descriptor, size = int(sys.argv[1]), int(sys.argv[2])
    import_runtime()
    with suppress(BrokenPipeError, KeyboardInterrupt):
        serve(Runner(sys.argv[3], RingReader(descriptor, size)), sys.stdin.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main()
