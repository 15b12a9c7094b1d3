"""Dead letters: what a handler could not take, kept with its original bytes, to be looked at and replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from irisloop.topics import TOPICS

from services.common.bus.api import ORIGIN_TIME, Record, Topic
from services.common.bus.cloudevents import REPLAY_FOR, Headers, Raw, derive_id
from services.common.errors import InvalidMessage, IrisloopError, NotFound

Write = Callable[[Sequence[Raw]], Awaitable[None]]
"""Writes records, all or none."""


class LetterBus(Protocol):
    """What is needed of a bus to work on dead letters."""

    async def read_named(self, name: str) -> Sequence[Record]:
        """Every committed record of a topic; none when there is no such topic."""

    def one_writer(self, name: str) -> AbstractAsyncContextManager[Write]:
        """Write as the only one of that name: whoever began before is fenced."""


ROOM_BYTES: Final = 1 << 20
"""A dead letter may be so much larger than its origin: the headers it gains."""
PREFIX: Final = "irisloop-"
LONGEST_ERROR: Final = 2_000


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter; `id` derives from its origin and handler, so that a repeat is known."""

    id: str
    topic: str
    service: str
    handler: str
    reason: str
    error: str
    partition: int
    offset: int
    record: Record


def dead_letter_topics(topics: Iterable[Topic[Any]] = TOPICS) -> list[tuple[str, Topic[Any]]]:
    """(name of the dead-letter topic, its origin) for every consumer that can fail for good."""
    found = {
        f"{topic.name}.{consumer.service}.dlq": topic
        for topic in topics
        for consumer in topic.consumers
        if consumer.mode != "every-instance"
    }
    return sorted(found.items(), key=lambda item: item[0])


def letter_headers(record: Record, service: str, handler: str, error: Exception) -> Headers:
    """The origin's headers and what became of it."""
    reason = error.reason if isinstance(error, IrisloopError) else type(error).__name__
    words = str(error) or repr(error)
    kept = [(name, value) for name, value in record.headers if name != REPLAY_FOR and not name.startswith(PREFIX)]
    said = {
        "letter-id": derive_id(
            "dead-letter", service, handler, record.topic, str(record.partition), str(record.offset)
        ),
        "reason": reason,
        "error": words[:LONGEST_ERROR],
        "handler": f"{service}.{handler}",
        "origin-topic": record.topic,
        "origin-partition": str(record.partition),
        "origin-offset": str(record.offset),
    }
    headers = [(PREFIX + name, value.encode()) for name, value in said.items()]
    return [*kept, *headers, (ORIGIN_TIME, record.first_seen.isoformat().encode())]


def letter_of(record: Record, service: str, handler: str, error: Exception) -> Raw:
    """The dead letter of a record that a handler could not take."""
    headers = letter_headers(record, service, handler, error)
    return Raw(f"{record.topic}.{service}.dlq", record.key, record.value, headers)


def read_letter(record: Record) -> Letter:
    """A record of a dead-letter topic."""

    def text(name: str) -> str:
        return (record.header(PREFIX + name) or b"").decode(errors="replace")

    service, _, handler = text("handler").partition(".")
    return Letter(
        id=text("letter-id"),
        topic=text("origin-topic"),
        service=service,
        handler=handler,
        reason=text("reason"),
        error=text("error"),
        partition=int(text("origin-partition") or -1),
        offset=int(text("origin-offset") or -1),
        record=record,
    )


async def letters(bus: LetterBus, topic: str = "", service: str = "") -> list[Letter]:
    """Every letter that was not replayed yet, oldest first within its topic; a repeat after a kill shows once."""
    found: dict[str, Letter] = {}
    done: set[str] = set()
    for name, origin in dead_letter_topics():
        if (topic and origin.name != topic) or (service and not name.endswith(f".{service}.dlq")):
            continue
        for record in await bus.read_named(name):
            if record.header(PREFIX + "replayed") is not None:
                done.add((record.header(PREFIX + "letter-id") or b"").decode())
            else:
                letter = read_letter(record)
                found.setdefault(letter.id, letter)
    return [letter for letter in found.values() if letter.id not in done]


def counts(found: Sequence[Letter]) -> Counter[tuple[str, str, str]]:
    """(topic, service.handler, reason) -> how many."""
    return Counter((letter.topic, f"{letter.service}.{letter.handler}", letter.reason) for letter in found)


async def find_letter(bus: LetterBus, letter_id: str) -> Letter:
    """By id or a beginning of it. Raises `NotFound`, and `InvalidMessage` for a beginning that several have."""
    match = [letter for letter in await letters(bus) if letter.id.startswith(letter_id)]
    if not match:
        raise NotFound(f"no dead letter {letter_id}: `irisloop dlq list` shows those there are", field="letter_id")
    if len(match) > 1:
        raise InvalidMessage(
            f"{len(match)} dead letters begin with {letter_id}: give more of the id", field="letter_id"
        )
    return match[0]


async def replay(bus: LetterBus, found: Sequence[Letter]) -> int:
    """Give letters back to the handler that failed, once each, and say how many were.

    The record and the mark that it was replayed leave in one transaction, and the marks are read when every other
    replay is fenced, so a letter goes back once whoever asks how often. Raises `Conflict` when another one began.
    """
    given = 0
    async with bus.one_writer("irisloop.dlq.replay") as write:
        open_now = {letter.id for letter in await letters(bus)}
        for letter in found:
            if letter.id in open_now:
                open_now.discard(letter.id)
                await write([_again(letter), _mark(letter)])
                given += 1
    return given


def _again(letter: Letter) -> Raw:
    """The original with its time, for the handler that failed; what had no id keeps one, however often replayed."""
    kept = letter.record.headers
    headers = [(name, value) for name, value in kept if name == ORIGIN_TIME or not name.startswith(PREFIX)]
    if not any(name == "ce_id" for name, _ in headers):
        headers.append(("ce_id", letter.id.encode()))
    headers.append((REPLAY_FOR, f"{letter.service}.{letter.handler}".encode()))
    return Raw(letter.topic, letter.record.key, letter.record.value, headers, letter.partition)


def _mark(letter: Letter) -> Raw:
    headers = [(PREFIX + "letter-id", letter.id.encode()), (PREFIX + "replayed", b"1")]
    return Raw(letter.record.topic, letter.record.key, b"", headers)
