"""The one road of all inference calls: resolved, checked, queued, answered, noted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from services.serving.domain.bindings import DIRECT
from services.serving.domain.calls import AnsweredOutput, InferAnswer, InferCall, Reply, WantedOutput
from services.serving.domain.classification import best_classes
from services.serving.domain.config import ModelConfig
from services.serving.domain.images import ImageLimits
from services.serving.domain.notes import SHADOW, Comparison, Note, Notes, described
from services.serving.domain.ports import Inline, Regions
from services.serving.domain.routes import RouteTable, Version
from services.serving.domain.sampling import Inputs, Keeps
from services.serving.domain.tensors import raw_of
from services.serving.domain.work import Arrays, Result, Work
from services.serving.errors import InferenceFailed, Overloaded, Unloaded, Unsupported
from services.serving.handlers.pictures import decoded_images, holds_images, images_of, kept_inputs
from services.serving.handlers.requests import asked_of, feed_of, wanted_of
from services.serving.handlers.rollouts import Choice, Rollouts
from services.serving.handlers.settling import Settling


class Inference:
    """Every transport calls `submit`, or `infer` on the event loop."""

    def __init__(
        self,
        table: Callable[[], RouteTable],
        rollouts: Rollouts,
        notes: Notes,
        regions: Regions,
        offload: Callable[[Callable[[], None]], None],
        limits: ImageLimits,
        keeps: Keeps,
    ) -> None:
        """`offload` runs what takes long, such as decoding images, in another thread; `keeps` says of which models
        inputs go along with the note of a call.
        """
        self.keeps = keeps
        self._offload = offload
        self._limits = limits
        self._table = table
        self._rollouts = rollouts
        self._notes = notes
        self._regions = regions
        self._settling: Settling | None = None

    def refused(self, model: str) -> None:
        """A transport refused a call for the model, unread."""
        version = self._default(model)
        if version is not None:
            version.runner.statistics.refused()

    def _default(self, model: str) -> Version | None:
        route = self._table().routes.get(model)
        return route.default if route is not None else None

    def patience_ns(self, model: str) -> int:
        """How long the model's default version lets a call wait before it is refused; 0: for ever, or not known."""
        version = self._default(model)
        batching = version.config.dynamic_batching if version is not None else None
        return batching.longest_wait_us() * 1000 if batching is not None else 0

    def submit(self, call: InferCall, reply: Reply, inline: Inline | None = None) -> Work:
        """Queue the call; from any thread. The work may be cancelled until it runs; `inline` is the runner's.

        Raises `UnknownModel`, `UnknownVersion`, `NotReady`, `BadRequest`, `Overloaded`; then `reply` is not called.
        """
        arrived_at_ns = time.time_ns()
        try:
            return self._submit(call, reply, inline, arrived_at_ns)
        except Unloaded:  # a transport's own thread may look a version up just before the event loop swaps it
            return self._submit(call, reply, inline, arrived_at_ns)

    def _submit(self, call: InferCall, reply: Reply, inline: Inline | None, arrived_at_ns: int) -> Work:
        version, choice = self._chosen(call)
        config = version.config
        pending = _Pending(self, call, version, choice, wanted_of(config, call), reply, arrived_at_ns)
        if holds_images(version, call):
            return self._submit_images(version, call, pending)
        feed, rows = feed_of(version, call, self._regions)
        work = pending.work = Work(feed, rows, pending.take, asked_of(call, config), queued_ns=call.taken_ns)
        try:
            version.runner.submit(work, inline)
        except Unloaded:
            raise
        except Overloaded:
            version.runner.statistics.refused()
            raise
        return work

    def _chosen(self, call: InferCall) -> tuple[Version, Choice | None]:
        """Who answers; a version that the call names is never exchanged for another."""
        table = self._table()
        route = None if call.version else table.routes.get(call.model)
        if route is not None and route.rollout is not None:
            choice = self._rollouts.choose(route, call.key)
            if choice is not None:
                return choice.version, choice
        return table.resolve(call.model, call.version), None

    def _submit_images(self, version: Version, call: InferCall, pending: _Pending) -> Work:
        """Decode elsewhere, then queue; the version stays open until then, whatever is swapped meanwhile."""
        encoded_images = pending.images = images_of(version, call, self._regions)
        work = pending.work = Work({}, len(encoded_images), pending.take, asked_of(call, version.config))
        held = version.runner.hold()
        held.__enter__()

        def decode() -> None:
            try:
                if not work.cancelled:
                    work.inputs = decoded_images(version, encoded_images, self._limits)
                    version.runner.submit(work)
            except Exception as error:
                pending.take(error, True)
            finally:
                held.__exit__(None, None, None)

        self._offload(decode)
        return work

    async def infer(self, call: InferCall) -> InferAnswer:
        """Raises what `submit` does, `InferenceFailed`, and `Unsupported` for a decoupled model."""
        if self._settling is None:
            self._settling = Settling(asyncio.get_running_loop())
        if self._table().resolve(call.model, call.version).config.decoupled:
            raise Unsupported(
                f"ModelInfer RPC doesn't support models with decoupled transaction policy, as {call.model!r} has: call "
                "ModelStreamInfer"
            )
        future: asyncio.Future[InferAnswer] = asyncio.get_running_loop().create_future()
        work = self.submit(call, partial(self._settling.put, future))
        try:
            return await future
        except asyncio.CancelledError:
            work.cancelled = True
            raise

    def answer(self, call: InferCall, version: Version, wanted: Sequence[WantedOutput], outputs: Arrays) -> InferAnswer:
        """The outputs that were asked for. Raises `BadRequest` where a region cannot take them."""
        return InferAnswer(version, call.id, [self._output(version.config, one, outputs) for one in wanted])

    def note(self, note: Note) -> None:
        """An answer becomes an event, later and elsewhere; so does a failure, where a rollout counts them."""
        self._notes.note(note)

    def compare(self, comparison: Comparison) -> None:
        """Another version is asked the same, when there is room."""
        self._rollouts.compare(comparison)

    def _output(self, config: ModelConfig, wanted: WantedOutput, outputs: Arrays) -> AnsweredOutput:
        declared = config.output(wanted.name)
        assert declared is not None
        array, datatype = outputs[wanted.name], declared.datatype
        if wanted.class_count:
            array = best_classes(array, wanted.class_count, declared.labels, batched=config.max_batch_size > 0)
            datatype = "BYTES"
        if wanted.region is not None:
            self._regions.write(wanted.region, raw_of(array))
        return AnsweredOutput(wanted.name, datatype, array.shape, array, wanted.region, wanted.binary)


class _Pending:
    """A call that was queued: its results become answers."""

    __slots__ = ("_arrived_at_ns", "_call", "_choice", "_inference", "_reply", "_version", "_wanted", "images", "work")

    def __init__(
        self,
        inference: Inference,
        call: InferCall,
        version: Version,
        choice: Choice | None,
        wanted: Sequence[WantedOutput],
        reply: Reply,
        arrived_at_ns: int,
    ) -> None:
        self.work: Work | None = None
        self.images: Sequence[bytes] = ()
        self._inference = inference
        self._call = call
        self._choice = choice
        self._version = version
        self._wanted = wanted
        self._reply = reply
        self._arrived_at_ns = arrived_at_ns

    def take(self, result: Result, last: bool) -> None:
        """A `Sink`: in the thread that ran the model."""
        self._hear(result, last)
        if last:
            self.work = None  # it holds this, too: the tensors of both would wait for a collection of cycles

    def _hear(self, result: Result, last: bool) -> None:
        """Noted before it is answered: a kill in between may leave a note without an answer, and never an answer that
        nobody counts.
        """
        if result is None or isinstance(result, Exception):
            if isinstance(result, Overloaded):
                self._version.runner.statistics.refused()
            failed = isinstance(result, InferenceFailed) and self._choice is not None
            if failed:
                self._note({}, str(result))
            self._reply(result, last)
            if failed and self._choice is not None:
                self._compare(self._choice)
            return
        try:
            answer = self._inference.answer(self._call, self._version, self._wanted, result)
        except Exception as error:
            self._reply(error, last)
            return
        self._note(described(self._version, result), inputs=self._inputs())
        if self._choice is None:
            self._reply(answer, last)
        else:
            self._reply_and_compare(self._choice, answer, last)

    def _reply_and_compare(self, choice: Choice, answer: InferAnswer, last: bool) -> None:
        """Compared after the answer is sent, but for inputs in shared memory, which are the caller's again then."""
        shared = any(one.region is not None for one in self._call.inputs)
        if not shared:
            self._reply(answer, last)
        self._compare(choice)
        if shared:
            self._reply(answer, last)

    def _compare(self, choice: Choice) -> None:
        if choice.beside is not None:
            assert self.work is not None
            about = self._about({}, SHADOW, 0)
            self._inference.compare(Comparison(choice.beside, self.work.inputs, about))

    def _inputs(self) -> Inputs | None:
        if not self._inference.keeps(self._version.model):
            return None
        assert self.work is not None
        return kept_inputs(self._version, self._call, self.images, self.work.inputs)

    def _note(self, outputs: Arrays, error: str = "", inputs: Inputs | None = None) -> None:
        role = (self._choice.role if self._choice else "") or DIRECT
        self._inference.note(self._about(outputs, role, time.time_ns() - self._arrived_at_ns, error, inputs))

    def _about(
        self, outputs: Arrays, role: str, latency_ns: int, error: str = "", inputs: Inputs | None = None
    ) -> Note:
        choice, trace = self._choice, self._call.traceparent
        ids = (choice.pair_id, choice.rollout_id) if choice else ("", "")
        return Note(self._version, outputs, role, self._arrived_at_ns, latency_ns, trace, *ids, error, inputs)
