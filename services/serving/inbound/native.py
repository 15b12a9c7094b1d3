"""ModelInfer through pygrpc-native: HTTP/2 runs in Rust, outside of the interpreter's lock; calls come in batches.

All other methods go on to the grpcio server, which listens behind it on a Unix socket. What it cannot do (TLS, deflate,
...) is refused at the start; docs/reference/serving-transports.md has the table.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from services.common.grpc import PING_MS, PING_TIMEOUT_MS
from services.common.servers import CannotStart
from services.common.telemetry import log
from services.serving.domain.restrictions import Restrictions
from services.serving.domain.work import Work
from services.serving.errors import Overloaded
from services.serving.handlers.inference import Inference
from services.serving.inbound.answered import Answered
from services.serving.inbound.intake import Arrival, Intake
from services.serving.inbound.oip import INFER, KEY, SERVICE, TRACEPARENT
from services.serving.inbound.statuses import status_of
from services.serving.inbound.tensors import call_of, response_of
from services.serving.inbound.unread import Unread
from services.serving.inbound.wire import model_of, request_of, response_bytes

ROAD: Final = "pygrpc"
PATH: Final = f"/{SERVICE.full_name}/{INFER}"
AT_ONCE: Final = 64
"""Calls read and run before the next ones are looked for."""
OFF_THE_WIRE: Final = 4096
"""Events taken over at one time: all that there are, so that none grows old where nobody sees it."""
TOO_LARGE: Final = 8
"""RESOURCE_EXHAUSTED."""
UNAVAILABLE: Final = 14
GRACE_S: Final = 3.0
FULL: Final = "Exceeds maximum queue size: too many calls wait to be read; try again in a moment."
LATE: Final = "Request timeout expired"
HELP: Final = (
    "The transport pygrpc needs the package pygrpc-native, which is not installed: `pip install 'irisloop[pygrpc]'`, "
    "or use --transport grpcio."
)


class NativeFront:
    """Takes calls in one thread of its own; quick models run right there, others on the pool."""

    def __init__(
        self, inference: Inference, restrictions: Restrictions, max_bytes: int, most_waiting: int, unread: Unread
    ) -> None:
        """`max_bytes`: of a request; `most_waiting`: calls that are not read yet. Nothing listens before `start`.

        Raises `CannotStart` when the package is not installed.
        """
        try:
            import pygrpc_native
        except ImportError as error:
            raise CannotStart(HELP) from error
        self._native = pygrpc_native
        self._inference = inference
        self._restrictions = restrictions
        self._max_bytes = max_bytes
        self._intake = Intake(most_waiting, lambda payload: inference.patience_ns(model_of(payload)))
        self._unread = unread
        self._answered = Answered(PATH, lambda: self._front.metrics())
        self._front: Any = None
        self._open: dict[int, Work | None] = {}
        self._stopping = False

    def start(self, target: str, fallback: str) -> int:
        """Listen on host:port, with the rest of the methods at the Unix socket; returns the port."""
        front = self._native.NativeGrpcFront(
            target,
            [(PATH, False)],
            io_threads=1,
            call_details=True,
            metrics=True,
            keepalive_time_ms=PING_MS,
            keepalive_timeout_ms=PING_TIMEOUT_MS,
        )
        front.set_fallback(fallback)
        front.start()
        self._front = front
        self._unread.add_road(ROAD, self._answered.waiting)
        threading.Thread(target=self._serve, name="pygrpc", daemon=True).start()
        return int(front.bound_port)

    async def stop(self) -> None:
        """Take no new calls, let those in hand end within a grace, and close."""
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + GRACE_S
        while self._open and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        if self._front is not None:
            await asyncio.to_thread(self._front.close)

    def _serve(self) -> None:
        """Takes everything off the wire, then reads and runs some of it, and so on."""
        while (events := self._front.recv_batch_details(OFF_THE_WIRE, 0 if self._intake else None)) is not None:
            self._take_in(events)
            turns: list[Callable[[], None]] = []
            calls, late = self._intake.take(AT_ONCE, time.perf_counter_ns())
            for arrival in late:
                self._turn_away(arrival, LATE)
            for arrival in calls:
                self._begin(arrival, turns.append)
            for turn in turns:
                turn()

    def _take_in(self, events: Any) -> None:
        called, now = self._native.EVENT_CALL, time.perf_counter_ns()
        for kind, identity, _, payload, _, details in events:
            if kind != called:
                work = self._open.pop(identity, None)
                if work is not None:
                    work.cancelled = True
                continue
            self._open[identity] = None
            if self._stopping:
                self._refuse(identity, UNAVAILABLE, "The server stops; try again.")
                continue
            arrival = Arrival(identity, payload, details[0], now)
            if not self._intake.put(arrival):
                self._turn_away(arrival, FULL)

    def _begin(self, arrival: Arrival, inline: Callable[[Callable[[], None]], None]) -> None:
        identity, payload = arrival.identity, arrival.payload
        if identity not in self._open:
            return  # its caller went away
        if len(payload) > self._max_bytes:
            limit = f"the request of {len(payload)} bytes is above the limit of {self._max_bytes}"
            self._refuse(identity, TOO_LARGE, limit)
            return
        try:
            key, traceparent = self._about(arrival.metadata)
            call = call_of(request_of(payload), key, traceparent, arrival.taken_ns)
            work = self._inference.submit(call, lambda answer, last: self._answer(identity, answer), inline)
            if identity in self._open:  # it may have been answered already
                self._open[identity] = work
        except Exception as error:
            self._answer(identity, error)

    def _turn_away(self, arrival: Arrival, sentence: str) -> None:
        """There is too much to do."""
        self._inference.refused(model_of(arrival.payload))
        self._refuse(arrival.identity, UNAVAILABLE, sentence)

    def _refuse(self, identity: int, code: int, sentence: str) -> None:
        self._open.pop(identity, None)
        self._front.fail(identity, code, sentence)

    def _answer(self, identity: int, answer: Any) -> None:
        """From any thread."""
        self._open.pop(identity, None)
        if isinstance(answer, Exception):
            self._front.fail(identity, *_failed(answer))
            return
        try:
            self._respond(identity, response_bytes(*response_of(answer)))
        except Overloaded as error:
            self._front.fail(identity, *_failed(error))
        except Exception as error:
            log.error("answer_failed", error=repr(error), exc_info=error)
            self._front.fail(identity, *_failed(error))

    def _respond(self, identity: int, answer: bytes) -> None:
        """Raises `Overloaded` where too much waits for its readers."""
        held = self._unread.take(len(answer))
        if self._front.respond(identity, answer):
            self._answered.add(len(answer))
            self._unread.pass_on(ROAD, held)
        else:  # its caller went away
            self._unread.give(held)

    def _about(self, metadata: Any) -> tuple[str, str]:
        key = traceparent = ""
        if self._restrictions:
            self._restrictions.check_method(INFER, metadata)
        for name, value in metadata:
            if name == TRACEPARENT:
                traceparent = str(value)
            elif name == KEY:
                key = str(value)
        return key, traceparent


def _failed(error: Exception) -> tuple[int, str]:
    """Code and sentence; the retry hint of grpcio has a reserved name, which this transport does not send."""
    code, message = status_of(error)
    return int(code.value[0]), message
