"""Carries a job out in a child process: its folder, its lines, its end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from services.common.telemetry import log
from services.trainer.domain.jobs import Answer, Job, job_document, read_answer, read_job, resumed
from services.trainer.domain.ports import EpochDone
from services.trainer.errors import ChildFailed

LAST_WORDS: Final = 20
TAKEN: Final = 3
"""Exit code of a child whose run another process still holds."""
TAKEN_WAIT_S: Final = 0.5


class ChildProcesses:
    """`Launcher` by `python -m services.trainer.child`; folders lie under `root`, one a run."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, run_id: str) -> Path:
        return self._root / run_id

    async def carry_out(self, job: Job, on_epoch: Callable[[EpochDone], None]) -> Answer:
        """Start or resume; the folder's arrays and checkpoint are removed once there is an answer.

        A report that failed is not kept: the same question may be answered another time.
        """
        folder = self.folder(job.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        result = folder / "result.json"
        if not result.exists():
            _write_job(folder, job)
            await self._run(folder, on_epoch)
        answer = read_answer(json.loads(result.read_text(encoding="utf-8")))
        if answer.error and job.kind == "evaluate":
            result.unlink()
        _tidy(folder)
        return answer

    async def _run(self, folder: Path, on_epoch: Callable[[EpochDone], None]) -> None:
        while True:
            code, words = await self._once(folder, on_epoch)
            if code == 0:
                return
            if code != TAKEN:
                raise ChildFailed(f"the run's process ended with {code}: {words or 'it said nothing'}")
            log.info("run_still_held", folder=str(folder))
            await asyncio.sleep(TAKEN_WAIT_S)

    async def _once(self, folder: Path, on_epoch: Callable[[EpochDone], None]) -> tuple[int, str]:
        """One process; returns its exit code and the last it said on standard error."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.trainer.child",
            str(folder),
            str(os.getpid()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        log.info("run_process_started", folder=folder.name, pid=process.pid)
        try:
            _, words = await asyncio.gather(_read_epochs(process, on_epoch), _last_words(process))
            return await process.wait(), words
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _write_job(folder: Path, job: Job) -> None:
    """What the process is told; whole or not at all."""
    path, part = folder / "job.json", folder / "job.part"
    if path.exists():
        job = resumed(read_job(json.loads(path.read_text(encoding="utf-8"))), job)
    part.write_text(json.dumps(job_document(job)), encoding="utf-8")
    part.replace(path)


async def _read_epochs(process: asyncio.subprocess.Process, on_epoch: Callable[[EpochDone], None]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"{"):
            on_epoch(EpochDone(**_document(line)))


def _document(line: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(line)
    return document


async def _last_words(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    lines: list[str] = []
    async for line in process.stderr:
        lines = [*lines[-LAST_WORDS:], line.decode(errors="replace").rstrip()]
    return " | ".join(line for line in lines if line)[-2000:]


def _tidy(folder: Path) -> None:
    for part in (*folder.glob("*.npz"), folder / "checkpoint.pt"):
        part.unlink(missing_ok=True)
    for part in folder.glob("*.part*"):
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
