"""What is generated and committed is what the contracts say today: `make proto` would change nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from irisloop.topics import TOPICS

from services.common.bus.api import Topic
from tools.asyncapi import DOCUMENT
from tools.generate_proto import PROTO, ROOT

ANY_TOPIC = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)


def generate(tool: str, target: Path) -> None:
    subprocess.run([sys.executable, "-m", tool, str(target)], cwd=ROOT, check=True)


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    generate("tools.generate_proto", tmp_path)
    fresh, committed = contents(tmp_path), contents(PROTO / "gen")
    assert len(fresh) > 24
    assert sorted(committed) == sorted(fresh), "run `make proto` and commit what it writes"
    assert [name for name in fresh if fresh[name] != committed[name]] == [], "run `make proto` and commit it"


def test_the_asyncapi_document_is_up_to_date(tmp_path: Path) -> None:
    generate("tools.asyncapi", tmp_path / "asyncapi.yaml")
    fresh = (tmp_path / "asyncapi.yaml").read_text(encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == fresh, "run `make proto` and commit what it writes"


@ANY_TOPIC
def test_a_topics_name_and_its_messages_name_say_the_same(topic: Topic[Any]) -> None:
    _, owner, noun, participle, version = topic.name.split(".")
    words = [*noun.split("-"), participle]
    expected = f"irisloop.{owner}.{version}." + "".join(word.capitalize() for word in words)
    assert topic.message.DESCRIPTOR.full_name == expected
