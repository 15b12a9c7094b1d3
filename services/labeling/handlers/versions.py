"""Cuts dataset versions: at once where the labels are there, else as soon as they are, also after a restart."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

from services.common.errors import InvalidMessage, IrisloopError
from services.common.metrics import LABELING_CLOSED, LABELING_CUT_SECONDS, LABELING_REQUESTS
from services.common.telemetry import log
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.manifest import Manifest, compose
from services.labeling.domain.model import Micros, Origin, RequestState, StoredObject, Version, VersionRequest
from services.labeling.domain.ports import Clock, Ledger, Ledgers, ManifestStore
from services.labeling.domain.splits import Splits
from services.labeling.errors import NothingToCut
from services.labeling.handlers.asking import top_up

LOOK_S = 5.0
"""A net under the wake-ups: open requests are looked at this often."""
BREATH_S = 0.5
"""And not more often than this."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request is; `version` is set once it is served."""

    version: Version | None
    labels_present: int
    labels_wanted: int
    tasks_open: int


@dataclass(slots=True)
class VersionHandlers:
    """Bound to a ledger, a place for manifests, a clock and the policy of drawing."""

    ledgers: Ledgers
    manifests: ManifestStore
    clock: Clock
    policy: DrawPolicy
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _cutting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def request(
        self,
        request_id: str,
        dataset: str,
        since: Micros | None,
        wanted: int,
        model: str,
        by: str,
        cameras: tuple[str, ...] = (),
    ) -> Progress:
        """Ask for a version, once for each id; it is cut before this returns when the labels are there."""
        if not 0 < len(request_id) <= 128:
            raise InvalidMessage("A request needs an id of at most 128 characters.", field="request_id")
        asked = VersionRequest(request_id, dataset, since, wanted, model, by, self.clock(), cameras)
        request = await self.ledgers.transact(lambda ledger: self._open(ledger, asked))
        if request.state is RequestState.OPEN:
            await self._serve(request)
        return await self.ledgers.read(lambda ledger: _progress(ledger, request_id))

    async def cancel(self, request_id: str) -> None:
        """Close an open request and its tasks; one that is unknown, served or cancelled stays as it is."""

        def work(ledger: Ledger) -> None:
            request = ledger.datasets.request(request_id)
            if request is not None and request.state is RequestState.OPEN:
                ledger.datasets.put_request(replace(request, state=RequestState.CANCELLED))
                LABELING_CLOSED.labels("cancelled").inc(ledger.tasks.close_cause(request_id))

        await self.ledgers.transact(work)

    def wake(self) -> None:
        """Labels or frames have come that an open request may have waited for. Call it inside the event loop."""
        self._woken.set()

    async def run(self) -> None:
        """Serve open requests until cancelled."""
        while True:
            try:
                for request in await self.ledgers.read(lambda ledger: ledger.datasets.open_requests()):
                    await self._serve(request)
            except IrisloopError as error:
                log.warning("requests_wait", reason=error.reason, error=str(error))
            await asyncio.sleep(BREATH_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_S)
            self._woken.clear()

    def _open(self, ledger: Ledger, asked: VersionRequest) -> VersionRequest:
        known = ledger.datasets.request(asked.id)
        if known is not None:
            return known
        dataset = ledger.datasets.get(asked.dataset)
        if asked.labels_wanted == 0 and ledger.annotations.count_in_force(dataset, None, ()) == 0:
            raise NothingToCut(f"Dataset {dataset.name!r} has no label in force yet.", field="dataset")
        ledger.datasets.put_request(asked)
        return asked

    async def _serve(self, request: VersionRequest) -> None:
        """Cut the version when the labels are there, else draw the tasks that are missing."""
        ready = await self.ledgers.read(lambda ledger: _present(ledger, request) >= request.labels_wanted)
        if ready:
            await self._cut(request)
        else:
            await self.ledgers.transact(lambda ledger: self._top_up(ledger, request))

    def _top_up(self, ledger: Ledger, request: VersionRequest) -> None:
        LABELING_REQUESTS.set(len(ledger.datasets.open_requests()))
        known = ledger.datasets.request(request.id)
        if known is not None and known.state is RequestState.OPEN:
            top_up(ledger, request, self.policy, self.clock())

    async def _cut(self, request: VersionRequest) -> None:
        """One at a time: an asset's split is decided by the version before."""
        async with self._cutting:
            known = await self.ledgers.read(lambda ledger: ledger.datasets.request(request.id))
            if known is None or known.state is not RequestState.OPEN:
                return
            started = time.perf_counter()
            while not await self._try_cut(request):
                log.info("cut_again", dataset=request.dataset, request=request.id)
            LABELING_CUT_SECONDS.observe(time.perf_counter() - started)

    async def _try_cut(self, request: VersionRequest) -> bool:
        """False when another instance cut a version of the dataset meanwhile."""
        last, manifest, splits = await self.ledgers.read(lambda ledger: _compose(ledger, request))
        if not manifest.rows:
            log.warning("nothing_to_cut", dataset=request.dataset, request=request.id)
            return True
        stored = await self.manifests.put(manifest)
        version = _version(request, manifest, stored, last + 1, self.clock())
        return await self.ledgers.transact(lambda ledger: _keep(ledger, request, version, manifest, splits))


def _present(ledger: Ledger, request: VersionRequest) -> int:
    dataset = ledger.datasets.get(request.dataset)
    return ledger.annotations.count_in_force(dataset, request.labels_since, request.cameras)


def _progress(ledger: Ledger, request_id: str) -> Progress:
    request = ledger.datasets.request(request_id)
    if request is None:
        raise NothingToCut(f"Request {request_id!r} is gone.", field="request_id")
    version = ledger.datasets.version(request.dataset, request.version) if request.version else None
    return Progress(version, _present(ledger, request), request.labels_wanted, ledger.tasks.pending(request_id))


def _compose(ledger: Ledger, request: VersionRequest) -> tuple[int, Manifest, dict[str, str]]:
    dataset = ledger.datasets.get(request.dataset)
    splits = Splits(dataset.name, ledger.datasets.splits(dataset.name))
    annotations = ledger.annotations.of_dataset(dataset)
    manifest = compose(dataset, annotations, splits, request)
    return ledger.datasets.last_number(dataset.name), manifest, splits.added


def _version(request: VersionRequest, manifest: Manifest, stored: StoredObject, number: int, now: Micros) -> Version:
    return Version(
        dataset=manifest.dataset.name,
        number=number,
        digest=manifest.digest,
        manifest=stored,
        class_names=manifest.dataset.class_names,
        splits=manifest.splits,
        classes=manifest.classes,
        superseded_left_out=manifest.superseded_left_out,
        created_at=now,
        created_by=request.requested_by,
        request_id=request.id,
        condition_since=request.labels_since,
        condition_labels=manifest.condition_labels,
    )


def _keep(
    ledger: Ledger, request: VersionRequest, version: Version, manifest: Manifest, splits: dict[str, str]
) -> bool:
    known = ledger.datasets.request(request.id)
    if known is None or known.state is not RequestState.OPEN:
        return True
    if ledger.datasets.last_number(version.dataset) + 1 != version.number:
        return False
    ledger.datasets.add_version(version, manifest, splits)
    ledger.datasets.put_request(replace(known, state=RequestState.SERVED, version=version.number))
    closed = ledger.tasks.close_cause(request.id)
    if request.labels_wanted:
        closed += _stop_drift_draws(ledger, request)
    LABELING_CLOSED.labels("served").inc(closed)
    LABELING_REQUESTS.set(len(ledger.datasets.open_requests()))
    ledger.say_created(version)
    return True


def _stop_drift_draws(ledger: Ledger, request: VersionRequest) -> int:
    """People's time is scarce: what a drift asked for is known once the labels for its repair are there."""
    for incident in ledger.datasets.drawing_incidents():
        if request.model in ("", incident.model):
            ledger.datasets.put_incident(replace(incident, drawing=False))
    return ledger.tasks.close_origins(request.dataset, (Origin.DRIFT,))
