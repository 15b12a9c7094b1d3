"""tritonclient's example scripts and perf_analyzer against Irisloop, where their peers have been built.

`make check` runs everywhere, also where they cannot be fetched; `python -m tests.conformance.scripts` builds them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conformance.catalogue import SCRIPTS
from tests.conformance.peers.clients import Examples, build_examples
from tests.conformance.peers.environments import is_built
from tests.conformance.peers.perf import build_perf_analyzer, throughputs
from tests.conformance.scripts import report, run_all
from tests.conformance.servers import PYGRPC, REPOSITORY, starter

HOME = REPOSITORY / ".irisloop"
SHORT = ("--concurrency-range", "2:2", "--measurement-interval", "1000", "--stability-percentage", "100", "-r", "3")

needs_examples = pytest.mark.skipif(
    not (is_built(HOME, "scripts") and (HOME / "peers" / "examples").is_dir()),
    reason="tritonclient's example scripts have not been fetched: python -m tests.conformance.scripts",
)
needs_perf_analyzer = pytest.mark.skipif(
    not (is_built(HOME, "perf") and is_built(HOME, "triton")), reason="perf_analyzer has not been fetched"
)


transports = pytest.mark.parametrize(
    "kind",
    [
        "irisloop",
        pytest.param(PYGRPC, marks=pytest.mark.skipif(find_spec("pygrpc_native") is None, reason="not installed")),
    ],
)


@needs_examples
@transports
@pytest.mark.timeout(900)
def test_every_example_script_of_tritonclient_passes(tmp_path: Path, kind: str) -> None:
    examples: Examples = build_examples(HOME)
    outcomes = run_all(starter(kind, tmp_path, tmp_path / "home"), examples, deflate=kind != PYGRPC)
    assert all(one.passed for one in outcomes), report(outcomes)


@needs_perf_analyzer
@transports
@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_perf_analyzer_measures_over_both_transports(tmp_path: Path, kind: str, protocol: str) -> None:
    analyzer = build_perf_analyzer(HOME)
    with starter(kind, tmp_path, tmp_path / "home")(SCRIPTS) as server:
        ran = analyzer.run(server.grpc if protocol == "grpc" else server.http, protocol, *SHORT)
    assert ran.returncode == 0, ran.stdout
    assert [rate > 0 for rate in throughputs(ran.stdout)] == [True], ran.stdout
    assert "Successful request count: 0" not in ran.stdout, ran.stdout
