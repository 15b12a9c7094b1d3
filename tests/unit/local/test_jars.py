"""The jars: pinned by digest, fetched once from any Maven repository, and nothing else is accepted."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from services.local import jars
from services.local.errors import LocalError
from services.local.jars import Jar, class_path, locked_jars, missing_jars

CONTENT = b"a jar"
PINNED = Jar("org.example:thing:1.0", hashlib.sha256(CONTENT).hexdigest())


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


@contextmanager
def repository(folder: Path) -> Iterator[str]:
    """A Maven repository over HTTP."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def one_jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of one jar, and the folder of a repository that will hold it."""
    lock = tmp_path / "one.lock"
    lock.write_text(f"# a comment\n{PINNED.coordinate} sha256:{PINNED.digest}\n")
    monkeypatch.setattr(jars.locked_jars, "__defaults__", (lock,))
    return tmp_path / "remote"


def put(folder: Path, content: bytes) -> None:
    path = PINNED.path(folder)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_the_lock_pins_kafka_and_all_it_needs() -> None:
    pinned = locked_jars()
    assert len(pinned) == 45
    assert any(jar.coordinate == "org.apache.kafka:kafka_2.13:4.1.1" for jar in pinned)
    assert len({jar.coordinate for jar in pinned}) == 45
    assert "://" not in jars.LOCK.read_text()


def test_a_jar_is_fetched_once_and_then_found_without_a_network(tmp_path: Path, one_jar: Path) -> None:
    put(one_jar, CONTENT)
    said: list[str] = []
    with repository(one_jar) as address:
        (path,) = class_path(tmp_path / "cache", repository=address, say=said.append)
    assert path.read_bytes() == CONTENT
    assert len(said) == 1
    assert class_path(tmp_path / "cache", repository=address, say=said.append) == [path]
    assert len(said) == 1


def test_another_content_than_the_pinned_one_is_refused_and_not_kept(tmp_path: Path, one_jar: Path) -> None:
    put(one_jar, b"something else")
    with repository(one_jar) as address, pytest.raises(LocalError, match=r"not what kafka\.lock pins"):
        class_path(tmp_path / "cache", repository=address)
    assert not PINNED.path(tmp_path / "cache" / "maven").exists()


def test_a_damaged_jar_is_fetched_again(tmp_path: Path, one_jar: Path) -> None:
    put(one_jar, CONTENT)
    put(tmp_path / "cache" / "maven", b"half")
    assert missing_jars(tmp_path / "cache") == [PINNED]
    with repository(one_jar) as address:
        class_path(tmp_path / "cache", repository=address)
    assert missing_jars(tmp_path / "cache") == []


def test_without_a_network_the_sentence_says_what_to_do(tmp_path: Path, one_jar: Path) -> None:
    one_jar.mkdir()
    with repository(one_jar) as address:
        pass
    with pytest.raises(LocalError, match="IRISLOOP_KAFKA__BOOTSTRAP_SERVERS"):
        class_path(tmp_path / "cache", repository=address)
