"""The measurements of serving measure what they say: what h2load prints, paired ratios, aims, the open loop, swaps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.bench.serving import flood, h2load, report, runtime, swaps
from tests.bench.serving.__main__ import in_case, parse, plan
from tests.bench.serving.aims import AIMS
from tests.bench.serving.models import MODELS
from tests.bench.serving.payloads import INFER
from tests.bench.serving.processes import Memory
from tests.bench.serving.repositories import write_onnx, write_version
from tests.bench.serving.rounds import Absence, Case, Sample
from tests.bench.serving.servers import IRISLOOP, IRISLOOP_QUIET, LABELS, MLSERVER, NATIVE, RAW, TRITON
from tests.bench.serving.steady import Call
from tests.bench.serving.summary import Figures, Spread

CNN_16 = Case("grpc", "cnn", 16)
OUTPUT = """finished in 2.00s, 500.00 req/s, 48.00KB/s
requests: 1002 total, 1002 started, 1000 done, 998 succeeded, 2 failed, 0 errored, 0 timeout
status codes: 998 2xx, 0 3xx, 0 4xx, 2 5xx
traffic: 96.68KB (99000) total, 9.77KB (10000) headers (space savings 95.00%), 73.24KB (74850) data
"""


def sample(server: str, turn: int, rate: float, case: Case = CNN_16) -> Sample:
    return Sample(server, case, turn, rate, cpu_us=1e6 / rate, p50_ms=1.0, p99_ms=2.0)


def test_h2loads_answers_bytes_and_times_are_read() -> None:
    load = h2load.parse(OUTPUT, "10\t200\t3000\n20\t200\t1000\n30\t200\t2000\n", 2.0)
    assert (load.answered, load.failed, load.data_bytes, load.rate) == (998, 2, 74850, 499.0)
    assert load.taken == (0.001, 0.002, 0.003)
    assert load.quantile(0.5) == 0.002


def test_what_h2load_never_printed_before_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="not understood"):
        h2load.parse("finished in 0s", "", 1.0)


def test_ratios_are_of_the_same_round_and_not_of_medians() -> None:
    pairs = [(100.0, 200.0), (300.0, 400.0), (20.0, 25.0)]
    samples = [
        one
        for turn, (ours, theirs) in enumerate(pairs)
        for one in (sample(IRISLOOP, turn, ours), sample(TRITON, turn, theirs))
    ]
    found = Figures(samples, []).ratio(IRISLOOP, TRITON, CNN_16)
    assert found is not None
    assert found.median == 0.75


def test_a_round_that_one_server_lacks_is_not_paired() -> None:
    figures = Figures([sample(IRISLOOP, 0, 10), sample(IRISLOOP, 1, 90), sample(TRITON, 1, 100)], [])
    assert figures.ratio(IRISLOOP, TRITON, CNN_16) == Spread(0.9, 0.9, 0.9)
    assert figures.ratio(IRISLOOP, MLSERVER, CNN_16) is None


def test_each_aim_is_reached_missed_or_not_measured() -> None:
    figures = Figures([sample(IRISLOOP, 0, 700), sample(TRITON, 0, 1000), sample(NATIVE, 0, 1100)], [])
    verdicts = {one.aim: one.verdict for one in (aim.judge(figures) for aim in AIMS)}
    of = f"{CNN_16}: rate of {{}} over {LABELS[TRITON]}"
    assert verdicts[of.format(LABELS[IRISLOOP])] == "reached"
    assert verdicts[of.format(LABELS[NATIVE])] == "missed"
    assert list(verdicts.values()).count("not measured") == len(verdicts) - 2


def test_the_cost_of_events_is_paired_with_the_quiet_twin() -> None:
    figures = Figures([sample(IRISLOOP, 0, 94), sample(IRISLOOP_QUIET, 0, 100)], [])
    judged = [one for one in (aim.judge(figures) for aim in AIMS) if one.verdict != "not measured"]
    assert [one.verdict for one in judged] == ["missed"]


def test_cpu_aims_are_above_the_bare_runtime_at_batch_one() -> None:
    bare = Sample(RAW, Case("grpc", "cnn", 1), 0, 6000, cpu_us=160, p50_ms=0.1, p99_ms=0.1)
    ours = Sample(NATIVE, CNN_16, 0, 3000, cpu_us=350, p50_ms=1, p99_ms=1)
    judged = [one for one in (aim.judge(Figures([bare, ours], [])) for aim in AIMS) if one.verdict != "not measured"]
    assert [(one.measured.split(" (")[0], one.verdict) for one in judged] == [("+190 us", "reached")]


def test_the_bare_runtime_runs_once_a_model_and_quiet_twins_only_where_events_are_weighed() -> None:
    keys = list(LABELS)
    cases = plan(parse([]))
    assert sum(RAW in in_case(case, keys) for case in cases) == 3
    assert [case for case in cases if IRISLOOP_QUIET in in_case(case, keys)] == [CNN_16]


def test_the_report_names_who_is_absent_and_why() -> None:
    figures = Figures([sample(IRISLOOP, 0, 500), sample(TRITON, 0, 1000)], [])
    about = report.Circumstances("python -m x", 1, 3.0, events=True)
    text = report.markdown(report.collect(figures, [Absence(MLSERVER, "any case", "no network")], about))
    assert "| Irisloop, grpcio | 500 | 500-500 | 0.50 | 0.50-0.50 |" in text
    assert "MLServer 1.7.1 is not in any case: no network" in text


def test_every_version_of_the_repository_appears_whole(tmp_path: Path) -> None:
    write_onnx(tmp_path, [MODELS["mlp"]])
    write_version(tmp_path / "mlp", 2, b"second")
    assert sorted(one.name for one in (tmp_path / "mlp").iterdir()) == ["1", "2", "config.pbtxt"]
    assert (tmp_path / "mlp" / "1" / "model.onnx").read_bytes() == MODELS["mlp"].file()


def test_models_are_the_same_each_time_and_differ_by_seed() -> None:
    assert MODELS["cnn"].file() == MODELS["cnn"].file()
    assert MODELS["cnn"].file(0) != MODELS["cnn"].file(1)
    assert runtime.answer("image-small").shape == (1, 10)


class Half(grpc.GenericRpcHandler):
    """Refuses every second call."""

    def __init__(self) -> None:
        self.calls = 0
        self.lengths: set[int] = set()
        self._lock = threading.Lock()

    def service(self, details: Any) -> Any:
        """The one method that the generator calls."""
        assert details.method == INFER
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: Any) -> bytes:
        with self._lock:
            self.calls += 1
            refused = self.calls % 2
            self.lengths.add(len(request))
        if refused:
            context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        return b"x" * 100


@contextmanager
def serving(handler: grpc.GenericRpcHandler) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_the_open_loop_sends_all_that_is_due_and_tells_answers_from_refusals() -> None:
    """The body is larger than a frame, and all of them together than the connection's window."""
    handler = Half()
    with serving(handler) as address:
        found = flood.run(address, b"y" * 49_000, rate=100, seconds=1.0, connections=2)
    assert handler.calls == found.due == len(found.accepted) + len(found.refused)
    assert abs(len(found.accepted) - len(found.refused)) <= 1
    assert found.due == 100
    assert handler.lengths == {49_000}
    assert found.unanswered == 0


def test_an_open_loop_that_cannot_send_says_so() -> None:
    with serving(Half()) as address, pytest.raises(RuntimeError, match="window"):
        flood.run(address, b"y" * 5_000_000, rate=10, seconds=0.5, connections=1)


def test_a_swap_is_judged_by_the_calls_that_ended_in_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "answer", lambda _: np.array([[5.0]], np.float32))
    calls = [Call(9.0 + 0.01 * step, 0.010, "1", 5.0, "") for step in range(100)]
    calls += [Call(10.0 + 0.01 * step, 0.030, "2", 7.0, "") for step in range(100)]
    calls += [Call(20.0, 9.0, "2", 7.0, ""), Call(21.0, 0.1, "2", 5.0, ""), Call(22.0, 0.1, "", 0.0, "UNAVAILABLE")]
    made = swaps.outcome(IRISLOOP, [swaps.Swap(10.0, 0.2)], calls, Memory(0, 100), Memory(0, 104))
    assert (made.before_p99_ms, made.during_p99_ms, made.p99_ratio) == (10.0, 30.0, 3.0)
    assert (made.failed, made.wrong, made.memory_growth) == (1, 1, 0.04)
    assert list(made.aims().values()) == [False, False, True]
