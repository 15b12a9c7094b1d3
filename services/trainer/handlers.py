"""What trainer does: one function for each message or call, whatever transport it came by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from services.common.bus import derive_id
from services.common.errors import Conflict, InvalidMessage, NotFound, Transient
from services.common.metrics import TRAINER_WAITING
from services.common.names import NAME
from services.common.telemetry import bind_trace, current_traceparent, log
from services.trainer.domain.ports import Book, Books, DatasetVersion, Labeling, Registry
from services.trainer.domain.runs import Run, RunState

LONGEST: Final = 128
MOST_SEED: Final = 2**32 - 1
MOST_EPOCHS: Final = 1000


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a new run. `labels_wanted` 0 takes the newest dataset version, or cuts one."""

    model: str
    dataset: str
    requested_by: str
    request_id: str = ""
    dataset_version: int = 0
    seed: int = 0
    epochs: int = 0
    from_scratch: bool = False
    labels_since: datetime | None = None
    labels_wanted: int = 0
    cameras: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Handlers:
    """Bound to the book, the neighbours and a clock (aware, UTC). `wake` has the scheduler look for queued runs."""

    books: Books
    labeling: Labeling
    registry: Registry
    clock: Callable[[], datetime]
    draw_id: Callable[[], str]
    wake: Callable[[], None]

    async def start_run(self, order: Order) -> Run:
        """A run asked for by a person; asking twice with one request id is asking once.

        Raises `InvalidMessage`, and what labeling raises about a dataset version that is named.
        """
        check(order)
        known = await self._known(order.request_id)
        if known is not None:
            return known
        if order.dataset_version:
            version = await self.labeling.version(order.dataset, order.dataset_version)
            return await self._queue(await self._new(order), version)
        run = await self._new(order)
        try:
            return await self._ask(run)
        except Transient as error:  # the run is taken: it waits, and labeling is asked again and again
            log.warning("labels_not_asked_for", run=run.id, error=str(error))
            return await self._wait(run, "labeling to answer")

    async def open_run(self, order: Order) -> Run | None:
        """A run asked for by the monitor: it waits until labeling has cut the version that the request asks for.

        The dataset is the champion's. A model without a champion has a run that failed, so that whoever asked hears of
        it. None when the request has expired. Raises `Unavailable` when a neighbour is.
        """
        known = await self._known(order.request_id)
        if known is not None:
            return known
        if order.expires_at is not None and order.expires_at <= self.clock():
            log.warning("request_expired", request=order.request_id, model=order.model)
            return None
        champion = await self.registry.champion(order.model)
        if champion is None:
            words = f"model `{order.model}` has no champion to train on from"
            return await self._end(await self._new(order), RunState.FAILED, words)
        return await self._ask(await self._new(replace(order, dataset=champion.dataset)))

    async def queue_waiting_run(self, request_id: str, version: DatasetVersion) -> Run | None:
        """The version that a run waits for was cut; None when no run waits for it."""
        run = await self._known(request_id)
        if run is None or run.state is not RunState.WAITING:
            return None
        return await self._queue(run, version)

    async def refresh_waiting(self) -> None:
        """Ask labeling again for every waiting run, in case its event was missed; end those that have expired."""
        waiting = await self.books.read(lambda book: book.runs(state=RunState.WAITING, limit=1000))
        TRAINER_WAITING.set(len(waiting))
        for run in waiting:
            try:
                with bind_trace(run.traceparent):
                    await self._refresh(run)
            except Transient as error:
                log.warning("labels_not_refreshed", run=run.id, error=str(error))

    async def cancel_run(self, run_id: str) -> Run:
        """End a run that is not over; its process, if any, is stopped by the scheduler. Raises `RunOver`."""
        at = self.clock()
        found = await self.books.read(lambda book: book.run(run_id))
        if found.state is RunState.WAITING:  # first: cut off between the two, the run still waits and can be cancelled
            await self._cancel_request(found)

        def work(book: Book) -> Run:
            run = book.save(book.run(run_id).end(RunState.CANCELLED, at, "cancelled by a person"))
            book.say_finished(run, at)
            return run

        run = await self.books.transact(work)
        self.wake()
        return run

    async def _known(self, request_id: str) -> Run | None:
        if not request_id:
            return None
        return await self.books.read(lambda book: book.run_of_request(request_id))

    async def _new(self, order: Order) -> Run:
        """Save the run; if another call with the same request was quicker, that one's run is the run."""
        run_id = derive_id("run", order.request_id) if order.request_id else self.draw_id()
        seed = order.seed or int(run_id.replace("-", "")[:8], 16)
        run = Run(
            id=run_id,
            model=order.model,
            state=RunState.WAITING,
            request_id=order.request_id or run_id,
            requested_by=order.requested_by,
            dataset=order.dataset,
            dataset_version=0,
            seed=seed,
            epochs=order.epochs,
            from_scratch=order.from_scratch,
            created_at=self.clock(),
            labels_since=order.labels_since,
            labels_wanted=order.labels_wanted,
            cameras=order.cameras,
            expires_at=order.expires_at,
            traceparent=current_traceparent(),
        )
        return await self.books.transact(lambda book: book.run_of_request(run.request_id) or book.save(run))

    async def _ask(self, run: Run) -> Run:
        """Ask labeling for the run's version: queue it when that is there, else say what it waits for."""
        try:
            answer = await self.labeling.request(run)
        except (InvalidMessage, NotFound, Conflict) as error:
            return await self._end(run, RunState.FAILED, str(error))
        if answer.version is not None:
            return await self._queue(run, answer.version)
        since = f" of frames since {run.labels_since:%H:%M:%S} UTC" if run.labels_since else ""
        return await self._wait(run, f"{answer.wanted} labels{since}: {answer.present} are there")

    async def _wait(self, run: Run, words: str) -> Run:
        at = self.clock()

        def work(book: Book) -> Run:
            current = book.run(run.id)
            if current.state is not RunState.WAITING or current.waiting_for == words:
                return current
            current = book.save(current.wait(words))
            book.say_waiting(current, at)
            return current

        return await self.books.transact(work)

    async def _queue(self, run: Run, version: DatasetVersion) -> Run:
        def work(book: Book) -> Run:
            current = book.run(run.id)
            if current.state is not RunState.WAITING:
                return current
            queued = current.queue(version.version, version.condition_labels)
            return book.save(replace(queued, class_names=version.class_names))

        queued = await self.books.transact(work)
        self.wake()
        return queued

    async def _refresh(self, run: Run) -> None:
        if run.expires_at is None or run.expires_at > self.clock():
            await self._ask(run)
            return
        await self._cancel_request(run)
        await self._end(run, RunState.FAILED, f"expired while waiting for {run.waiting_for}")

    async def _end(self, run: Run, state: RunState, error: str) -> Run:
        at = self.clock()

        def work(book: Book) -> Run:
            current = book.run(run.id)
            if current.state is not RunState.WAITING:
                return current
            current = book.save(current.end(state, at, error))
            book.say_finished(current, at)
            return current

        return await self.books.transact(work)

    async def _cancel_request(self, run: Run) -> None:
        try:
            await self.labeling.cancel(run.request_id)
        except NotFound:
            log.info("request_gone_already", request=run.request_id)


def check(order: Order) -> None:
    """Raise `InvalidMessage` unless the names and numbers can be carried out."""
    for field, name in (("model", order.model), ("dataset", order.dataset)):
        if not NAME.fullmatch(name):
            words = f"`{field}` {name[:80]!r} is not 1 to 128 letters, digits, dots, - and _"
            raise InvalidMessage(words, field=field)
    if len(order.request_id) > LONGEST:
        raise InvalidMessage(f"`request_id` has more than {LONGEST} characters", field="request_id")
    for field, number, most in (("seed", order.seed, MOST_SEED), ("epochs", order.epochs, MOST_EPOCHS)):
        if not 0 <= number <= most:
            raise InvalidMessage(f"`{field}` is 0 to {most}, got {number}", field=field)
