"""tritonclient's example scripts, which judge a server from outside: fetched once from a git clone, never committed.

They are NVIDIA's (BSD 3-clause). Where the machine cannot reach the repository, a clone that lies somewhere else will
do: `python -m tests.conformance.scripts --clone PATH`.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conformance.peers.environments import Environment, PeerMissing, build_environment, peers_folder, say

REPOSITORY: Final = "https://github.com/triton-inference-server/client"
INSIDE: Final = "src/python/examples"
CLONE_TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class Release:
    """A commit whose scripts are run; git's own hash of the folder says that they are those."""

    name: str
    commit: str
    tree: str


PINNED: Final = Release(
    "pinned", "9b2b42dc1b1798a6dd9805de22b1b2f042ea53ce", "57ff3e15e631c4c9cb61ce25c7fa159ef3ba3bcd"
)
NEWER: Final = Release("newer", "58a44caa0dce77303115302e6dbdf64626b2b093", "311bc4eabd4c6b51d44a445e931e6ed3f962d616")
"""Its model control sends a file name that is too long; Triton 2.51 aborts at it."""


@dataclass(frozen=True, slots=True)
class Examples:
    """An interpreter that has tritonclient, and the scripts by release."""

    environment: Environment
    folder: Path

    def script(self, name: str, release: Release = PINNED) -> Path:
        """The path of one."""
        return self.folder / release.name / name


def build_examples(home: Path, clone: Path | None = None) -> Examples:
    """tritonclient in an environment, and the scripts of both releases. `clone`: a local clone to take them from.

    Raises `PeerMissing` when they cannot be had.
    """
    examples = Examples(build_environment(home, "scripts"), peers_folder(home) / "examples")
    missing = [release for release in (PINNED, NEWER) if not (examples.folder / release.name).is_dir()]
    if missing:
        clone = clone or _clone(peers_folder(home) / "client.git")
        for release in missing:
            _export(clone, release, examples.folder / release.name)
    return examples


def _clone(folder: Path) -> Path:
    if not folder.is_dir():
        say(f"Cloning {REPOSITORY} into {folder}.")
        try:
            _git("clone", "--quiet", "--bare", "--filter=blob:none", REPOSITORY, str(folder))
        except PeerMissing as problem:
            shutil.rmtree(folder, ignore_errors=True)
            raise PeerMissing(
                f"tritonclient's example scripts could not be cloned from {REPOSITORY}. Where this machine cannot "
                f"reach it, clone it elsewhere, copy the clone here and pass --clone PATH once. {problem}"
            ) from problem
    return folder


def _export(clone: Path, release: Release, folder: Path) -> None:
    say(f"Taking tritonclient's example scripts of {release.commit[:8]} from {clone}.")
    found = _git("-C", str(clone), "rev-parse", f"{release.commit}:{INSIDE}").decode().strip()
    if found != release.tree:
        raise PeerMissing(f"{clone} has {INSIDE} as {found} at {release.commit[:8]}, expected {release.tree}")
    archive = _git("-C", str(clone), "archive", "--format=tar", found)
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        members.extractall(part, filter="data")
    part.rename(folder)


def _git(*arguments: str) -> bytes:
    program = shutil.which("git")
    if program is None:
        raise PeerMissing("git was not found on the path")
    try:
        answer = subprocess.run([program, *arguments], capture_output=True, check=False, timeout=CLONE_TIMEOUT_S)
    except subprocess.TimeoutExpired as problem:
        raise PeerMissing(f"`git {arguments[0]}` did not end within {CLONE_TIMEOUT_S} s") from problem
    if answer.returncode:
        raise PeerMissing(
            f"`git {arguments[0]}` ended with {answer.returncode}: {answer.stderr.decode()[-400:].strip()}"
        )
    return answer.stdout
