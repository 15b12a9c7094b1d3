"""Writes docs/reference/serving-compatibility.md from the conformance suite's table of differences.

`python -m tools.serving_compatibility [FILE]`; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.conformance.differences import DIFFERENCES, Difference
from tests.conformance.peers.triton import VERSION
from tests.conformance.requests import REQUESTS
from tools.generate_proto import ROOT

PAGE: Final = ROOT / "docs" / "reference" / "serving-compatibility.md"
NOTE: Final = "<!-- Written by `python -m tools.serving_compatibility` from tests/conformance/differences.py. -->"
LEFT_OUT: Final = (
    ("Response cache", "an answer from a cache would be an event that no model made"),
    ("`generate` and `generate_stream`", "they are for text models"),
    ("gRPC-web", "browsers can use HTTP"),
    ("CUDA shared memory", "there is no CUDA here; its calls answer UNIMPLEMENTED and say so"),
    ("`rate_limiter`, `KIND_GPU`", "read, and warned about at load"),
)

LIMITS: Final = (
    ("A body or message above `IRISLOOP_SERVING__MAX_REQUEST_MB`", "413, RESOURCE_EXHAUSTED"),
    ("An HTTP body that does not go on for 60 s", "408, and the connection is closed"),
    ("Bytes after the end of a compressed body, a second member of gzip among them", "400"),
    ("More calls than can be answered in time", "503, UNAVAILABLE, with a hint when to try again"),
)
"""What the suite does not send, for it takes a minute or hundreds of megabytes."""


def main(arguments: Sequence[str]) -> None:
    """Write the page."""
    place = Path(arguments[0]) if arguments else PAGE
    place.write_text("\n".join(page()) + "\n")


def page() -> Iterator[str]:
    """The page's lines."""
    yield from ("# Serving: compatibility with Triton", "", NOTE, "")
    yield from _introduction()
    yield from ("", "## What differs", "", "| Request | Triton | Irisloop | Why |", "| --- | --- | --- | --- |")
    yield from (_row(one.title, one.triton, one.irisloop, one.reason) for one in DIFFERENCES)
    yield from ("", "## What is left out", "", "| What | Why |", "| --- | --- |")
    yield from (_row(*one) for one in LEFT_OUT)
    yield from ("", "## Limits that the suite does not reach", "", "| Request | Irisloop |", "| --- | --- |")
    yield from (_row(*one) for one in LIMITS)
    yield from ("", "## The requests behind each difference")
    for one in DIFFERENCES:
        yield from _cases(one)


def _introduction() -> Iterator[str]:
    yield f"The same {len(REQUESTS)} requests, good and malformed, were sent to Irisloop and to Triton {VERSION}"
    yield "(its Python backend, models that compute the same), over gRPC and HTTP. Codes, classes of messages, names,"
    yield "shapes, datatypes and values are compared (`tests/conformance`). Wherever nothing is listed here, the two"
    yield "answer alike."


def _cases(one: Difference) -> Iterator[str]:
    covered = [case.name for case in REQUESTS if one.covers(case.name)]
    yield from ("", f"### {one.title}", "")
    yield from (f"- `{name}`" for name in covered)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main(sys.argv[1:])
