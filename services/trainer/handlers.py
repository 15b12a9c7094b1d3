"""What trainer does: one function for each message or call, whatever transport it came by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from services.common.bus import derive_id
from services.common.errors import Conflict, NotFound
from services.common.telemetry import current_traceparent, log
from services.trainer.domain.ports import Book, Books, DatasetVersion, Labeling, Registry
from services.trainer.domain.runs import Run, RunState


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
        """A run asked for by a person; asking twice with one request id is asking once."""
        known = await self._known(order.request_id)
        if known is not None:
            return known
        run = await self._new(order)
        if order.dataset_version:
            version = await self.labeling.version(order.dataset, order.dataset_version)
            return await self._queue(run, version)
        return await self._ask(run)

    async def open_run(self, order: Order) -> Run | None:
        """A run asked for by the monitor: it waits until labeling has cut the version that the request asks for.

        The dataset is the champion's. None when the model has no champion to retrain, or the request has expired.
        """
        known = await self._known(order.request_id)
        if known is not None:
            return known
        if order.expires_at is not None and order.expires_at <= self.clock():
            log.warning("request_expired", request=order.request_id, model=order.model)
            return None
        champion = await self.registry.champion(order.model)
        if champion is None:
            log.warning("request_without_champion", request=order.request_id, model=order.model)
            return None
        return await self._ask(await self._new(replace(order, dataset=champion.dataset)))

    async def queue_waiting_run(self, request_id: str, version: DatasetVersion) -> Run | None:
        """The version that a run waits for was cut; None when no run waits for it."""
        run = await self._known(request_id)
        if run is None or run.state is not RunState.WAITING:
            return None
        return await self._queue(run, version)

    async def refresh_waiting(self) -> None:
        """Ask labeling again for every waiting run, in case its event was missed; end those that have expired."""
        waiting = await self.books.read(lambda book: book.runs(state=RunState.WAITING))
        for run in waiting:
            if run.expires_at is not None and run.expires_at <= self.clock():
                await self._expire(run)
            else:
                await self._ask(run)

    async def cancel_run(self, run_id: str) -> Run:
        """End a run that is not over; its process, if any, is stopped by the scheduler. Raises `RunOver`."""
        at = self.clock()

        def work(book: Book) -> Run:
            run = book.save(book.run(run_id).end(RunState.CANCELLED, at, "cancelled by a person"))
            book.say_finished(run, at)
            return run

        run = await self.books.transact(work)
        if run.request_id:
            await self._cancel_request(run)
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
            expires_at=order.expires_at,
            traceparent=current_traceparent(),
        )
        return await self.books.transact(lambda book: book.run_of_request(run.request_id) or book.save(run))

    async def _ask(self, run: Run) -> Run:
        """Ask labeling for the run's version: queue it when that is there, else say what it waits for."""
        try:
            answer = await self.labeling.request(
                run.request_id,
                run.dataset,
                labels_since=run.labels_since,
                labels_wanted=run.labels_wanted,
                model=run.model,
            )
        except (NotFound, Conflict) as error:
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

    async def _expire(self, run: Run) -> None:
        await self._end(run, RunState.FAILED, f"expired while waiting for {run.waiting_for}")
        await self._cancel_request(run)

    async def _end(self, run: Run, state: RunState, error: str) -> Run:
        at = self.clock()

        def work(book: Book) -> Run:
            current = book.run(run.id)
            if current.is_over:
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
