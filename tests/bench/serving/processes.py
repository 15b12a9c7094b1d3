"""What a server costs the machine, read from /proc: CPU time, memory and threads of its whole tree of processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
KIB: Final = 1024
PARENT, USER, SYSTEM, THREADS = 1, 11, 12, 17
"""Fields of /proc/PID/stat after the name."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: `rss` counts shared pages in each process, `pss` shares them out."""

    rss: int
    pss: int


def cpu_seconds(pid: int) -> float:
    """User and system time until now of a process and of all below it."""
    return sum((int(stat[USER]) + int(stat[SYSTEM])) / TICKS for stat in _stats(pid))


def threads(pid: int) -> int:
    """How many run in the tree."""
    return sum(int(stat[THREADS]) for stat in _stats(pid))


def memory(pid: int) -> Memory:
    """Of the tree."""
    rss = pss = 0
    for one in tree(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:  # it has ended since
            continue
        sizes = {name: int(size.split()[0]) for name, _, size in (line.partition(":") for line in lines[1:])}
        rss, pss = rss + sizes["Rss"] * KIB, pss + sizes["Pss"] * KIB
    return Memory(rss, pss)


def tree(pid: int) -> list[int]:
    """The process and what it started, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[PARENT]), []).append(int(entry.name))
    found, rest = [], [pid]
    while rest:
        one = rest.pop()
        found.append(one)
        rest += children.get(one, [])
    return found


def _stats(pid: int) -> Iterator[list[str]]:
    for one in tree(pid):
        if stat := _stat(one):
            yield stat


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(") ")[2].split()
