"""Apache Kafka's jars: exactly those of `kafka.lock`, fetched once by jgo, checked by digest at every start."""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.local.errors import LocalError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LOCK: Final = Path(__file__).parent / "kafka.lock"
KAFKA_VERSION: Final = "4.1.1"
AT_ONCE: Final = 8
ROW: Final = re.compile(r"(?P<coordinate>[\w.:-]+) sha256:(?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned jar: `coordinate` is group:artifact:version, `digest` the SHA-256 of its content in hex."""

    coordinate: str
    digest: str

    def path(self, repository: Path) -> Path:
        """Where a Maven repository keeps it."""
        group, artifact, version = self.coordinate.split(":")
        return repository.joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")

    def is_intact(self, repository: Path) -> bool:
        """Whether the repository holds it with exactly the pinned content."""
        try:
            with self.path(repository).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.digest
        except FileNotFoundError:
            return False


def locked_jars(lock: Path = LOCK) -> list[Jar]:
    """What the lock file pins, in its order."""
    rows = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    matches = [ROW.fullmatch(row) for row in rows]
    return [Jar(match["coordinate"], match["digest"]) for match in matches if match is not None]


def missing_jars(cache: Path) -> list[Jar]:
    """The pinned jars that the cache does not hold intact."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jars = locked_jars()
        intact = pool.map(lambda jar: jar.is_intact(cache / "maven"), jars)
        return [jar for jar, good in zip(jars, intact, strict=True) if not good]


def class_path(cache: Path, *, repository: str = "", say: Callable[[str], None] = lambda _: None) -> list[Path]:
    """All jars of Kafka, fetched when the cache lacks some. Raises `LocalError` when one cannot be had intact."""
    if missing_jars(cache):
        with _alone(cache):
            missing = missing_jars(cache)  # another process may have fetched them meanwhile
            if missing:
                say(f"Fetching {len(missing)} jars of Apache Kafka {KAFKA_VERSION}, once, into {cache}.")
                _fetch(missing, cache / "maven", repository)
    return [jar.path(cache / "maven") for jar in locked_jars()]


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One process at a time fetches; the others wait for it."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "fetching.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise LocalError(
            f"The cache {cache} cannot be written: {error.strerror or error}. "
            "Set IRISLOOP_LOCAL__CACHE to a folder that can."
        ) from error


def _fetch(jars: Sequence[Jar], folder: Path, repository: str) -> None:
    context = _context(folder, repository)

    def fetch(jar: Jar) -> str:
        jar.path(folder).unlink(missing_ok=True)  # what is there is not what is pinned
        try:
            context.create_dependency(jar.coordinate).artifact.resolve()
        except Exception as error:  # jgo raises what requests, urllib3 and the file system raise
            return f"{jar.coordinate} ({str(error) or type(error).__name__})"
        if jar.is_intact(folder):
            return ""
        jar.path(folder).unlink(missing_ok=True)
        return f"{jar.coordinate} (its content is not what kafka.lock pins)"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        failures = [failure for failure in pool.map(fetch, jars) if failure]
    if failures:
        raise LocalError(
            f"{len(failures)} of {len(jars)} jars of Apache Kafka could not be fetched, the first: {failures[0]}. "
            "Check the network, or set IRISLOOP_LOCAL__MAVEN_REPOSITORY to a mirror that you can reach, "
            "or IRISLOOP_KAFKA__BOOTSTRAP_SERVERS to a broker of your own."
        )


def _context(folder: Path, repository: str) -> MavenContext:
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    remotes = {"configured": repository} if repository else GlobalSettings.load().repositories
    return MavenContext(repo_cache=folder, remote_repos=remotes or None, timeout=30)
