"""Carries out queued runs, one at a time: a run that was running when trainer died is the first to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from services.common.errors import IrisloopError, NotFound, Transient
from services.common.metrics import TRAINER_EPOCH_SECONDS
from services.common.settings import CommonSettings
from services.common.telemetry import bind_trace, log
from services.trainer import wire
from services.trainer.domain.jobs import Answer, Job
from services.trainer.domain.ports import Book, Books, Champion, EpochDone, Labeling, Launcher, Registry
from services.trainer.domain.runs import Run, RunState
from services.trainer.errors import ChildFailed
from services.trainer.settings import TrainerSettings

RETRY_S: Final = 2.0


@dataclass(slots=True)
class Scheduler:
    """Runs beside the bus until cancelled; `wake` makes it look at once."""

    books: Books
    labeling: Labeling
    registry: Registry
    launcher: Launcher
    settings: TrainerSettings
    clock: Callable[[], datetime]
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    _current: str = ""
    _process: asyncio.Task[Answer] | None = None

    def wake(self) -> None:
        """There may be something to do, or to stop."""
        self.woken.set()

    async def run(self) -> None:
        """Carry out what is queued, then wait to be woken."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_cancelled())
            while True:
                try:
                    run = await self._next()
                    if run is None:
                        await asyncio.sleep(0.2)
                        continue
                    with bind_trace(run.traceparent):
                        await self._carry_out(run)
                except Transient as error:  # our own database is busy or full: what is done is in the run's folder
                    log.warning("runs_wait", error=str(error), retry_in_s=RETRY_S)
                    await asyncio.sleep(RETRY_S)

    async def _next(self) -> Run | None:
        """What was interrupted first, then the oldest queued."""

        def work(book: Book) -> Run | None:
            interrupted = book.runs(state=RunState.RUNNING, limit=1000)
            queued = book.runs(state=RunState.QUEUED, limit=1000)
            return next(reversed([*queued, *interrupted]), None)

        return await self.books.read(work)

    async def _watch_cancelled(self) -> None:
        """Stop the process of a run that a person cancelled."""
        while True:
            await self.woken.wait()
            self.woken.clear()
            run_id, process = self._current, self._process
            if process is None:
                continue
            try:
                run = await self.books.read(lambda book, run_id=run_id: book.run(run_id))  # type: ignore[misc]
            except Transient:
                self.woken.set()
                await asyncio.sleep(RETRY_S)
                continue
            if run.is_over:
                process.cancel()

    async def _carry_out(self, run: Run) -> None:
        if run.attempts >= self.settings.most_attempts:
            await self._finish(run, RunState.FAILED, f"its process ended {run.attempts} times without an answer")
            return
        try:
            champion = await self.registry.champion(run.model)
            job = await self._job(run, champion)
            started = await self._start(run, champion, job)
            if started is None:
                return
            answer = await self._answer(job, started)
        except Transient as error:
            log.warning("run_put_off", run=run.id, error=str(error))
            await asyncio.sleep(RETRY_S)
        except ChildFailed as error:
            log.error("run_process_failed", run=run.id, error=str(error))
            await asyncio.sleep(min(RETRY_S, 0.2 * 2**run.attempts))
        except IrisloopError as error:
            await self._finish(run, RunState.FAILED, str(error))
        else:
            if answer is not None:
                await self._conclude(started, answer)

    async def _answer(self, job: Job, run: Run) -> Answer | None:
        """The child's answer; None when the run was cancelled meanwhile."""
        loop = asyncio.get_running_loop()
        said: set[asyncio.Future[None]] = set()

        def on_epoch(done: EpochDone) -> None:
            task = asyncio.ensure_future(self._note_epoch(run.id, done), loop=loop)
            said.add(task)
            task.add_done_callback(said.discard)

        self._current = run.id
        self._process = asyncio.create_task(self.launcher.carry_out(job, on_epoch))
        self.wake()  # it may have been cancelled before there was a process to stop
        try:
            answer = await self._process
            await asyncio.gather(*said)
            return answer
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                self._process.cancel()
                await asyncio.gather(self._process, return_exceptions=True)
                raise
            return None
        finally:
            self._current, self._process = "", None
            await asyncio.gather(*said, return_exceptions=True)

    async def _job(self, run: Run, champion: Champion | None) -> Job:
        version = await self.labeling.version(run.dataset, run.dataset_version)
        warm = "" if run.from_scratch or champion is None else await self._weights(champion, run)
        settings, common = self.settings, self.settings.common
        return Job(
            kind="train",
            run_id=run.id,
            model=run.model,
            dataset=run.dataset,
            dataset_version=version.version,
            manifest=version.manifest,
            class_names=list(version.class_names),
            **places(common),
            seed=run.seed,
            epochs=run.epochs or (settings.warm_epochs if warm else settings.epochs),
            steps=settings.warm_steps,
            batch=settings.batch,
            new_share=settings.new_share,
            flip=settings.flip,
            longest_side=settings.longest_side,
            threads=settings.threads,
            niceness=settings.niceness,
            weights=warm,
            opponent=None if champion is None else await self.registry.version(run.model, champion.version),
        )

    async def _weights(self, champion: Champion, run: Run) -> str:
        """The champion's torch weights, when they were trained here on the same classes; "" otherwise."""
        try:
            source = await self.books.read(lambda book: book.run(champion.run_id))
        except NotFound:
            return ""
        return source.weights if source.class_names == run.class_names else ""

    async def _start(self, run: Run, champion: Champion | None, job: Job) -> Run | None:
        """Note that a process is about to start; None when the run is over already."""
        at = self.clock()
        warm = champion.version if champion is not None and job.weights else ""

        def work(book: Book) -> Run | None:
            current = book.run(run.id)
            if current.is_over:
                return None
            if current.attempts:  # it goes on as it began, whatever is live by now
                return book.save(current.start(at, current.warm_start_from))
            return book.save(replace(current.start(at, warm), epochs=job.epochs))

        return await self.books.transact(work)

    async def _note_epoch(self, run_id: str, done: EpochDone) -> None:
        at = self.clock()

        def work(book: Book) -> None:
            run = book.run(run_id)
            if not run.is_over:
                book.say_progressed(book.save(replace(run, epoch=done.epoch, epochs=done.epochs)), done, at)

        await self.books.transact(work)
        TRAINER_EPOCH_SECONDS.observe(done.seconds)
        log.info("epoch_done", run=run_id, epoch=done.epoch, accuracy=round(done.validation_accuracy, 4))

    async def _conclude(self, run: Run, answer: Answer) -> None:
        if answer.error:
            await self._finish(run, RunState.FAILED, answer.error)
            return
        await self._finish(run, RunState.SUCCEEDED, "", answer)

    async def _finish(self, run: Run, state: RunState, error: str, answer: Answer | None = None) -> None:
        at = self.clock()

        def work(book: Book) -> None:
            current = book.run(run.id)
            if current.is_over:
                return
            ended = current.end(state, at, error)
            if answer is not None:
                report = wire.report_message(run.id, run.dataset, run.dataset_version, answer, at)
                package = wire.package_message(answer).SerializeToString()
                ended = replace(ended, package=package, report=report.SerializeToString(), weights=answer.weights)
            book.say_finished(book.save(ended), at)

        await self.books.transact(work)
        log.info("run_finished", run=run.id, model=run.model, state=state.value, error=error)


def places(common: CommonSettings) -> dict[str, str]:
    """Where a child finds the object store and the signing key."""
    return {"objects": common.objects, "durability": common.durability, "home": str(common.home.absolute())}
