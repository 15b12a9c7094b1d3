"""Builds a peer's environment with uv, once: what is there already, from the same lock, is left as it is."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOCKS: Final = Path(__file__).parent
READY: Final = ".ready"
NETWORK_TIMEOUT_S: Final = "300"


class PeerMissing(RuntimeError):
    """A peer cannot be had on this machine; the text says what is lacking and what to do."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with what a lock file names."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return next(iter(sorted((self.folder / "lib").glob("python*/site-packages"))))


def say(text: str) -> None:
    """Progress, on stderr so that a program's answer stays alone on stdout."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def peers_folder(home: Path) -> Path:
    """Where all peers live."""
    return home.resolve() / "peers"


def build_environment(home: Path, name: str) -> Environment:
    """`<home>/peers/<name>` with what `<name>.lock` pins; nothing happens when it stands there already.

    Raises `PeerMissing` when uv, an interpreter or a package cannot be had.
    """
    lock = LOCKS / f"{name}.lock"
    environment = Environment(peers_folder(home) / name)
    wanted = _fingerprint(lock)
    ready = environment.folder / READY
    if is_built(home, name):
        return environment
    say(f"Building the environment of {name} in {environment.folder} ({lock.name}).")
    environment.folder.parent.mkdir(parents=True, exist_ok=True)
    _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(environment.folder))
    _install(environment, lock, name)
    ready.write_text(wanted)
    return environment


def is_built(home: Path, name: str) -> bool:
    """Whether the environment stands there, from the lock as it is."""
    environment = Environment(peers_folder(home) / name)
    ready = environment.folder / READY
    current = ready.is_file() and ready.read_text() == _fingerprint(LOCKS / f"{name}.lock")
    return current and environment.python.exists()


def _install(environment: Environment, lock: Path, name: str) -> None:
    # Wheels only: a package that had to be compiled would need tools that a user's machine may lack.
    asked = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock))
    try:
        _uv("pip", "install", "--quiet", "--python", str(environment.python), *asked)
    except PeerMissing as problem:
        raise PeerMissing(
            f"the packages of {lock.name} could not be installed for {name}; the package index has to be reachable "
            f"the first time. {problem}"
        ) from problem


def _fingerprint(lock: Path) -> str:
    if not lock.is_file():
        raise PeerMissing(f"{lock} is missing from the checkout")
    return f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {sys.version_info[:2]}"


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    program = str(uv) if uv.exists() else shutil.which("uv")
    if program is None:
        raise PeerMissing("uv was not found beside this Python nor on the path; `make setup` installs it")
    answer = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, env=_environment())
    if answer.returncode:
        raise PeerMissing(
            f"`uv {' '.join(arguments[:2])}` ended with {answer.returncode}: {answer.stderr.strip()[-800:]}"
        )


def _environment() -> dict[str, str]:
    # The person's own proxy, index and certificates must reach uv, and no other environment may.
    kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return {"UV_HTTP_TIMEOUT": NETWORK_TIMEOUT_S, **kept}
