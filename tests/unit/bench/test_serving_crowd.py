"""The crowd says what it means to say: idle, slow and half calls, byte by byte."""

from __future__ import annotations

import struct

from tests.bench.serving import crowd, crowding
from tests.bench.serving.flood import ACK, DATA, END_STREAM, HEADERS, PING, PREFACE, SETTINGS, frame


def test_a_guest_answers_settings_and_pings_and_keeps_what_is_not_whole() -> None:
    buffer = bytearray(frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0) + frame(PING, 0, 0, b"12345678")[:-1])
    assert crowding.replies(buffer) == [frame(SETTINGS, ACK, 0)]
    buffer += b"8"
    assert crowding.replies(buffer) == [frame(PING, ACK, 0, b"12345678")]
    assert not buffer


def test_half_calls_say_that_they_go_on() -> None:
    words = crowding.first_words("grpc-half", 0, "h:1", b"x" * 100)
    assert words.startswith(PREFACE)
    kind, flags, stream = struct.unpack_from(">BBI", words, len(words) - 9 - 52 + 3)
    assert (kind, flags & END_STREAM, stream) == (DATA, 0, 1)
    opened = crowding.first_words("grpc-half", 1, "h:1", b"")
    assert opened[len(PREFACE) + 9 + 3] == HEADERS
    assert b"ModelStreamInfer" in opened
    whole = crowding.first_words("http-slow", 0, "h:1", b"POST / HTTP/1.1\r\nhost: AUTHORITY\r\n\r\n" + b"x" * 40)
    assert b"host: h:1\r\n" in whole
    assert len(crowding.first_words("http-half", 0, "AUTHORITY", whole)) == len(whole) - 20


def test_the_large_answer_is_as_large_as_it_should_be_for_a_small_call() -> None:
    model = crowd.wide(1024)
    assert model.sample().nbytes == 256
    assert 4 * model.answer_shape[0] == 1 << 20
    assert model.file()
