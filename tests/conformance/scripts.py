"""Runs tritonclient's example scripts against a server: `python -m tests.conformance.scripts --server triton`.

Each is a program that exits with 0 when the server did what a client of Triton expects.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conformance.catalogue import REPEAT, SCRIPTS
from tests.conformance.peers.clients import NEWER, PINNED, Examples, Release, build_examples
from tests.conformance.peers.environments import PeerMissing
from tests.conformance.servers import PYGRPC, Server, Starter, starter

TIMEOUT_S: Final = 120
TAIL: Final = 1500


@dataclass(frozen=True, slots=True)
class Script:
    """One run of a script."""

    file: str
    arguments: tuple[str, ...] = ()
    release: Release = PINNED

    @property
    def title(self) -> str:
        """How it is called in reports."""
        mark = "" if self.release is PINNED else f" @{self.release.commit[:8]}"
        return " ".join([self.file.removesuffix(".py"), *self.arguments]) + mark

    @property
    def over_http(self) -> bool:
        """Else over gRPC."""
        return "http" in self.file or "http" in self.arguments


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    script: Script
    passed: bool
    output: str


INFERENCE: Final = tuple(
    Script(f"simple_{name}.py")
    for name in (
        *("grpc_aio_infer_client", "grpc_aio_sequence_stream_infer_client", "grpc_async_infer_client"),
        *("grpc_custom_args_client", "grpc_health_metadata", "grpc_infer_client", "grpc_keepalive_client"),
        *("grpc_sequence_stream_infer_client", "grpc_sequence_sync_infer_client", "grpc_shm_client"),
        *("grpc_shm_string_client", "grpc_string_infer_client"),
        *("http_aio_infer_client", "http_async_infer_client", "http_health_metadata", "http_infer_client"),
        *("http_sequence_sync_infer_client", "http_shm_client", "http_shm_string_client", "http_string_infer_client"),
    )
)
"""The 20 that need neither CUDA nor model control."""
DYNAMIC: Final = tuple(
    Script(f"simple_{name}_infer_client.py", ("-d",))
    for name in ("grpc_aio_sequence_stream", "grpc_sequence_stream", "grpc_sequence_sync", "http_sequence_sync")
)
DEFLATE: Final = Script("simple_grpc_infer_client.py", ("-C", "deflate"))
"""pygrpc refuses it with a sentence, as docs/reference/serving-transports.md says."""
COMPRESSED: Final = (
    Script("simple_grpc_infer_client.py", ("-C", "gzip")),
    DEFLATE,
    *(
        Script(
            "simple_http_infer_client.py",
            (f"--request-compression-algorithm={name}", f"--response-compression-algorithm={name}"),
        )
        for name in ("gzip", "deflate")
    ),
)
OTHERS: Final = (
    *(Script(f"grpc_explicit_{datatype}_content_client.py") for datatype in ("int", "int8", "byte")),
    Script("simple_grpc_custom_repeat.py"),
    Script("reuse_infer_objects_client.py", ("-i", "grpc")),
    Script("reuse_infer_objects_client.py", ("-i", "http")),
)
CONTROL_GRPC: Final = Script("simple_grpc_model_control.py")
"""Wants a repository of exactly eight entries, and leaves `simple` unloaded."""
CONTROL_GRPC_NEWER: Final = Script("simple_grpc_model_control.py", release=NEWER)
"""The real Triton 2.51 aborts at it."""
CONTROL_HTTP: Final = Script("simple_http_model_control.py")
"""Wants exactly seven entries."""


def run_script(script: Script, examples: Examples, server: Server) -> Outcome:
    """One run; a script that does not end in time has failed."""
    address = server.http if script.over_http else server.grpc
    command = [str(examples.environment.python), str(examples.script(script.file, script.release))]
    try:
        ended = subprocess.run(
            [*command, "-u", address, *script.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as late:
        return Outcome(script, False, f"not ended after {TIMEOUT_S} s: {_tail(late.output)}")
    passed = ended.returncode == 0 and server.alive
    text = _tail(ended.stdout)
    return Outcome(script, passed, text if server.alive else f"{text}\nThe server died: {server.last_lines()}")


def run_all(start: Starter, examples: Examples, *, newer: bool = True, deflate: bool = True) -> list[Outcome]:
    """Every script, on two repositories; `newer`: also what Triton 2.51 does not survive; `deflate`: also over gRPC."""
    with start([*SCRIPTS, REPEAT]) as server:
        scripts = (*INFERENCE, *DYNAMIC, *COMPRESSED, *OTHERS, CONTROL_GRPC, *([CONTROL_GRPC_NEWER] if newer else []))
        outcomes = [run_script(script, examples, server) for script in scripts if deflate or script != DEFLATE]
    with start(SCRIPTS) as server:
        outcomes.append(run_script(CONTROL_HTTP, examples, server))
    return outcomes


def report(outcomes: Sequence[Outcome]) -> str:
    """A line for each, with the end of its output where it failed."""
    lines = [f"{'PASS' if one.passed else 'FAIL'}  {one.script.title}" for one in outcomes]
    failed = [f"\n--- {one.script.title}\n{one.output}" for one in outcomes if not one.passed]
    passed = sum(one.passed for one in outcomes)
    return "\n".join([*lines, f"{passed} passed, {len(outcomes) - passed} failed", *failed])


def _tail(output: bytes | str | None) -> str:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return text[-TAIL:]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("triton", "irisloop", PYGRPC), default="irisloop")
    parser.add_argument("--home", type=Path, default=Path(".irisloop"), help="where the peers are kept")
    parser.add_argument("--clone", type=Path, help="a local clone of triton-inference-server/client")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            examples = build_examples(chosen.home, chosen.clone)
            start = starter(chosen.server, Path(folder), chosen.home)
            outcomes = run_all(start, examples, newer=chosen.server != "triton", deflate=chosen.server != PYGRPC)
        except PeerMissing as problem:
            sys.stderr.write(f"{problem}\n")
            return 2
    sys.stdout.write(report(outcomes) + "\n")
    return 0 if all(one.passed for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
