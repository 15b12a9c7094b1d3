"""Runs the whole table on a server; a server that dies of a case is started again, and the case says so.

`python -m tests.conformance.recording` writes the real Triton's answers to oracle.json, which the tests compare with.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.conformance.cases import Case
from tests.conformance.catalogue import EVERY
from tests.conformance.exchange import DEAD, Exchange
from tests.conformance.peers.environments import PeerMissing
from tests.conformance.peers.triton import VERSION
from tests.conformance.reduction import Record
from tests.conformance.requests import REQUESTS
from tests.conformance.servers import Server, Starter, starter

ORACLE: Final = Path(__file__).with_name("oracle.json")
Records = dict[str, list[Record]]


def record(start: Starter, cases: Sequence[Case]) -> Records:
    """What the server answered to each case."""
    found: Records = {}
    left = list(cases)
    while left:
        with start(EVERY) as server, _exchange(server) as exchange:
            while left:
                case = left.pop(0)
                found[case.name] = exchange.run(case)
                if not server.answers():
                    found[case.name] = [DEAD]
                    break
    return found


@contextmanager
def _exchange(server: Server) -> Iterator[Exchange]:
    exchange = Exchange(server.grpc, server.http)
    try:
        yield exchange
    finally:
        exchange.close()


def write_oracle(records: Records) -> None:
    """Triton's answers, one case a line, so that a change can be read."""
    lines = [f"{json.dumps(name)}: {json.dumps(records[name], sort_keys=True)}" for name in records]
    head = json.dumps(f"Triton {VERSION}, Python backend; written by python -m tests.conformance.recording")
    ORACLE.write_text('{"about": ' + head + ',\n"records": {\n' + ",\n".join(lines) + "\n}}\n")


def read_oracle() -> Records:
    """What `write_oracle` wrote."""
    found: Records = json.loads(ORACLE.read_text())["records"]
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".irisloop"), help="where the peers are kept")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            records = record(starter("triton", Path(folder), chosen.home), REQUESTS)
        except PeerMissing as problem:
            sys.stderr.write(f"{problem}\n")
            return 2
    write_oracle(records)
    sys.stdout.write(f"{len(records)} records written to {ORACLE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
