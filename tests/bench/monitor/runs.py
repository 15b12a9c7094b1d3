"""A long measurement in pieces, each kept when it is done: one that is broken off goes on where it was, a longer one
adds to it, and two processes share it. Pieces hold for one state of the code that is measured, named by its digest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import services.monitor
from tests.bench.monitor.figures import FOLDER

_JUDGE: Final = Path(services.monitor.__file__).parent


def judge() -> str:
    """Digest of the code that judges, and of its policy."""
    digest = blake2b(digest_size=6)
    for file in (*sorted((_JUDGE / "domain").rglob("*.py")), _JUDGE / "policy.yaml"):
        digest.update(f"{file.relative_to(_JUDGE)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def gather(
    part: str, of: str, pieces: Mapping[str, tuple[Callable[..., Any], tuple[Any, ...]]], processes: int
) -> dict[str, Any]:
    """Results of the pieces (a function and its arguments, by key), those known taken from
    `.irisloop/bench/runs/<part>-<of>.json`, the others run by so many processes and added there.
    """
    file = FOLDER / "runs" / f"{part}-{of}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"pieces": {}}
    known["commit"] = _commit()
    missing = {key: piece for key, piece in pieces.items() if key not in known["pieces"]}
    for key, result in _run(missing, processes):
        known["pieces"][key] = result
        _write(file, known)
        sys.stderr.write(f"{part} {key}: {result}\n")
    return {key: known["pieces"][key] for key in pieces}


def _run(pieces: Mapping[str, tuple[Callable[..., Any], tuple[Any, ...]]], processes: int) -> Any:
    if processes < 2 or len(pieces) < 2:
        for key, (work, given) in pieces.items():
            yield key, work(*given)
        return
    with ProcessPoolExecutor(processes, initializer=os.nice, initargs=(10,)) as pool:
        waiting = {pool.submit(work, *given): key for key, (work, given) in pieces.items()}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _write(file: Path, known: Mapping[str, Any]) -> None:
    """In one step, so that a run that is killed leaves a whole file."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(known) + "\n", encoding="utf-8")
    new.replace(file)


def _commit() -> str:
    said = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"
