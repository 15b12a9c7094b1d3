"""Ports: defaults, the sentence about one in use, and other ones when that is allowed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.local.errors import LocalError
from services.local.ports import FREE_RANGE, choose_ports, free_port, holder_of, is_free
from services.local.settings import LocalSettings


@contextmanager
def listener(port: int = 0) -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        yield server.getsockname()[1]


def settings_with(port: int) -> LocalSettings:
    return LocalSettings(kafka_port=port, kafka_controller_port=free_port({port}))


def test_a_port_in_use_is_a_sentence_that_names_the_holder_and_the_way_out() -> None:
    with listener() as port, pytest.raises(LocalError) as caught:
        choose_ports(settings_with(port), [], {}, free_ports=False, kafka=True)
    assert f"Port {port} of Kafka is in use by process {os.getpid()}" in str(caught.value)
    assert "--free-ports" in str(caught.value)


def test_free_ports_takes_another_port_only_where_one_is_in_use() -> None:
    with listener() as port:
        settings = settings_with(port)
        chosen = choose_ports(settings, [], {}, free_ports=True, kafka=True)
    assert chosen.kafka != port
    assert FREE_RANGE[0] <= chosen.kafka < FREE_RANGE[1]
    assert chosen.kafka_controller == settings.kafka_controller_port


def test_no_two_processes_get_one_port_and_replicas_have_their_own() -> None:
    settings = LocalSettings(kafka_port=free_port(set()))
    chosen = choose_ports(settings, ["ingest", "serving"], {"serving": 3}, free_ports=True, kafka=True)
    every = [*chosen.http.values(), *chosen.grpc.values(), chosen.kafka, chosen.kafka_controller, chosen.metrics]
    assert sorted(chosen.http) == ["ingest", "serving", "serving-1", "serving-2"] == sorted(chosen.grpc)
    assert len(set(every)) == len(every)
    assert all(is_free(port) for port in every)


def test_a_port_of_nobody_is_free_and_one_that_is_listened_on_is_not() -> None:
    with listener() as port:
        assert not is_free(port)
        assert str(os.getpid()) in holder_of(port)
    assert is_free(port)
