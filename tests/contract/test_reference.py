"""What docs/ says of settings, metrics, topics, commands and routes is what the code has; no link leads nowhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.common.bus import MemoryBroker, MemoryBus
from services.ingest.app import build as build_ingest
from services.labeling.app import build as build_labeling
from services.monitor.app import build as build_monitor
from services.registry.app import build as build_registry
from services.serving.app import build as build_serving
from services.trainer.app import build as build_trainer
from tools.generate_proto import ROOT
from tools.reference import FOLDER, commands, pages

GENERATED = ("settings.md", "metrics.md", "topics.md", "cli.md")
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)|(?:src|srcset)=\"([^\"]+)\"")
ANCHORED = re.compile(r"\]\(([^)#\s:]*)#([^)\s]+)\)")
NAMED_FILE = re.compile(r"(?<![\w./])((?:services|tests|tools|proto|deploy|docs)/[\w./-]*\.[a-z]{2,6})\b")
ROUTE = re.compile(r"`(GET|POST|PUT|DELETE) (/api/v1/[^`\s]*)`")
BUILD: dict[str, Callable[..., Any]] = {
    "ingest": build_ingest,
    "labeling": build_labeling,
    "trainer": build_trainer,
    "registry": build_registry,
    "serving": build_serving,
    "monitor": build_monitor,
}


def shown_commands() -> list[str]:
    """Every line of a console block that calls `irisloop`, whole."""
    found: set[str] = set()
    for document in DOCUMENTS:
        if document == FOLDER / "cli.md":  # usage lines, read from the code
            continue
        for block in BLOCK.findall(document.read_text(encoding="utf-8")):
            lines = block.replace("\\\n", " ").splitlines()
            found.update(re.sub(r"\s+", " ", line) for line in lines if re.match(r"([A-Z_]+=\S+ )*irisloop ", line))
    return sorted(found)


@pytest.mark.parametrize("name", GENERATED)
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == pages()[name], "run `make proto` and commit what it writes"


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_that_is_shown_exists_with_these_options(line: str) -> None:
    words = shlex.split(line, comments=True)
    words = words[words.index("irisloop") + 1 :]
    end = next((place for place, word in enumerate(words) if re.match(r"[|&>;]", word)), len(words))
    words = [word for word in words[:end] if word != "--debug"]
    known = {tuple(name.split()): command for name, command in commands()}
    name = next((name for name in (tuple(words[:n]) for n in (3, 2, 1)) if name in known), ())
    assert name, f"there is no such command: {line}"
    if "--help" not in words:
        known[name].make_context(" ".join(name), words[len(name) :])


def test_the_documents_show_commands() -> None:
    assert len(shown_commands()) > 20


@pytest.mark.parametrize("service", BUILD)
async def test_every_route_is_in_the_reference_and_no_other(service: str) -> None:
    application = BUILD[service](bus=MemoryBus(MemoryBroker(), service=service))
    paths: dict[str, dict[str, Any]] = application.http.openapi()["paths"]
    served = {f"{method.upper()} {path}" for path, several in paths.items() for method in several}
    text = (FOLDER / "http-api.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {service}\n")[2].partition("\n## ")[0]
    assert {f"{method} {path}" for method, path in ROUTE.findall(section)} == served


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(document: Path) -> None:
    links = [first or second for first, second in LINK.findall(document.read_text(encoding="utf-8"))]
    inside = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in inside if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_to_a_heading_finds_it(document: Path) -> None:
    missing = [
        f"{page}#{anchor}"
        for page, anchor in ANCHORED.findall(document.read_text(encoding="utf-8"))
        if anchor not in anchors(document.parent / page if page else document)
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS[:2] + DOCUMENTS[3:], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_of_the_repository_that_a_page_names_is_there(document: Path) -> None:
    """Not of the changelog, which tells of files that went."""
    named = NAMED_FILE.findall(document.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    words = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in words}
