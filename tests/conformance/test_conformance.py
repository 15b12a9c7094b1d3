"""The table of requests against Irisloop, compared with what the real Triton answered (oracle.json)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.comparison import Records, differing, explained, stale, unaccounted
from tests.conformance.differences import DIFFERENCES
from tests.conformance.messages import class_of
from tests.conformance.recording import read_oracle, record
from tests.conformance.requests import REQUESTS, by_name
from tests.conformance.servers import starter

RAISED = ("'INPUT'",)
"""What an oracle's model says when it was run without its input; no server could say the same."""
SHOWN = 20
"""Differences that a failing test shows in full."""


@pytest.fixture(scope="module")
def oracle() -> Records:
    """Triton's records."""
    return read_oracle()


@pytest.fixture(scope="module")
def irisloop(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Irisloop's, from a server started for this module."""
    folder: Path = tmp_path_factory.mktemp("conformance")
    return record(starter("irisloop", folder, folder / "home"), REQUESTS)


def test_every_case_has_a_name_of_its_own_and_an_answer_of_tritons(oracle: Records) -> None:
    assert list(oracle) == list(by_name())


@pytest.mark.timeout(600)
def test_irisloop_answers_as_triton_but_where_a_difference_is_listed(irisloop: Records, oracle: Records) -> None:
    found = unaccounted(differing(irisloop, oracle), DIFFERENCES)
    shown = "\n".join(explained(name, irisloop, oracle) for name in found[:SHOWN])
    assert not found, f"{len(found)} cases differ without a reason:\n{shown}"


@pytest.mark.timeout(600)
def test_no_listed_difference_is_out_of_date(irisloop: Records, oracle: Records) -> None:
    assert stale(differing(irisloop, oracle), DIFFERENCES) == []


@pytest.mark.timeout(600)
def test_irisloop_survives_every_case(irisloop: Records) -> None:
    assert [name for name, records in irisloop.items() if {"code": "SERVER DIED"} in records] == []


@pytest.mark.timeout(600)
def test_a_well_formed_message_never_gives_internal_or_unknown(irisloop: Records) -> None:
    codes = {name: [one.get("code") for one in records] for name, records in irisloop.items()}
    assert [name for name in codes if not _may_fail(name) and {"INTERNAL", "UNKNOWN"} & set(codes[name])] == []


def _may_fail(name: str) -> bool:
    # A model that raises while it runs is the model's failure; and tritonclient expects INTERNAL of a load that fails.
    return "fails while it runs" in name or name == "grpc/strings/not a number" or name.startswith("control/load")


def test_every_message_of_tritons_falls_in_a_class(oracle: Records) -> None:
    texts = {one["text"] for records in oracle.values() for one in records if one.get("text")}
    assert sorted(text for text in texts if class_of(text) == "other") == sorted(RAISED)
