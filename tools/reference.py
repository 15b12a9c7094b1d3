"""Writes the reference pages that are read from code: settings, metrics, topics and the command line.

`python -m tools.reference [FOLDER]` writes into docs/reference or the folder; a contract test compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt
from irisloop.topics import TOPICS
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from services.common import metrics
from services.common.bus.api import Topic
from services.common.settings import CommonSettings
from services.ingest.settings import IngestSettings
from services.labeling.settings import LabelingSettings
from services.local.cli.app import app
from services.local.data import DataSettings
from services.local.demo.command import _application as demo
from services.local.settings import LocalSettings
from services.monitor.settings import MonitorSettings
from services.registry.settings import RegistrySettings
from services.serving.settings import ServingSettings
from services.trainer.settings import TrainerSettings
from tools.generate_proto import ROOT

FOLDER: Final = ROOT / "docs" / "reference"
NOTE: Final = "<!-- Written by `make proto` from the code; change it there. -->\n"
Row = Sequence[str]

SETTINGS: Final[tuple[tuple[str, str, type[BaseSettings]], ...]] = (
    ("All services", "Shared by every process and by the command line.", CommonSettings),
    ("ingest", "", IngestSettings),
    ("labeling", "", LabelingSettings),
    ("trainer", "", TrainerSettings),
    ("registry", "", RegistrySettings),
    ("serving", "", ServingSettings),
    ("monitor", "", MonitorSettings),
    ("One machine", "Read by `irisloop up`, `irisloop demo` and the other commands.", LocalSettings),
    ("The demo's images", "Read by `make data` and `irisloop demo`.", DataSettings),
)
INHERITED: Final = ("common",)


def main(arguments: Sequence[str]) -> None:
    """Write every page."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """{file name: its text}."""
    return {
        "settings.md": settings_page(),
        "metrics.md": metrics_page(),
        "topics.md": topics_page(),
        "cli.md": cli_page(),
    }


# ---- settings ----


def settings_page() -> str:
    """Every setting of every process."""
    parts = [
        "# Settings\n",
        NOTE,
        "Every setting is an environment variable; there is no settings file. They are read once, when a process",
        "starts. A wrong value stops the process with a sentence that names the variable. Passwords are never logged.",
        "`irisloop up` passes its own environment on to the services, but gives them the usual ports, or free ones;",
        "the ports of services below count for one that is started alone.\n",
    ]
    for title, words, kind in SETTINGS:
        parts += [f"## {title}\n", *([f"{words}\n"] if words else []), *table(HEADS, setting_rows(kind)), ""]
    return "\n".join(parts)


HEADS: Final = ("Variable", "Value", "Default", "Meaning")


def setting_rows(kind: type[BaseSettings]) -> list[Row]:
    """(variable, kind of value, default, meaning) of each field."""
    prefix = str(kind.model_config.get("env_prefix", ""))
    return [
        row
        for name, field in kind.model_fields.items()
        if name not in INHERITED
        for row in rows_of(prefix, name, field)
    ]


def rows_of(prefix: str, name: str, field: FieldInfo) -> Iterator[Row]:
    """A nested model gives a row for each of its fields."""
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel) and not isinstance(default, BaseSettings):
        for inner, inner_field in type(default).model_fields.items():
            yield from rows_of(f"{prefix}{name.upper()}__", inner, inner_field)
        return
    yield f"`{prefix}{name.upper()}`", values_of(field), default_text(default), words_of(field.description)


def values_of(field: FieldInfo) -> str:
    """The kind of value and its bounds, in words."""
    bounds = {type(one): one for one in field.metadata}
    low = bounds[Ge].ge if Ge in bounds else None
    high = bounds[Le].le if Le in bounds else None
    kind = kind_of(field.annotation)
    if low is not None and high is not None:
        return f"{kind} {low}..{high}"
    if Gt in bounds:
        below = f", below {bounds[Lt].lt:g}" if Lt in bounds else f", at most {high}" if high is not None else ""
        return f"{kind} above {bounds[Gt].gt:g}{below}"
    return kind if low is None else f"{kind} from {low}"


def kind_of(annotation: Any) -> str:
    """One word for a type, or the closed list of its values."""
    if get_origin(annotation) in (Union, UnionType):
        return kind_of(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return "JSON list"
    if get_args(annotation):
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    names = {int: "integer", float: "number", bool: "`true`, `false`", str: "text", SecretStr: "secret", Path: "path"}
    return names[annotation]


def default_text(value: Any) -> str:
    """A default as one would write it; a path of the repository or of the user's home without where it is."""
    if isinstance(value, SecretStr) or value in ("", None):
        return ""
    if isinstance(value, Path):
        text = str(value)
        return f"`{text.replace(str(ROOT) + '/', '').replace(str(Path.home()), '~')}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{one}"' for one in value) + "]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# ---- metrics ----


def metrics_page() -> str:
    """Every metric of `services/common/metrics.py`, by the service that measures it."""
    found = [value for value in vars(metrics).values() if isinstance(value, Counter | Gauge | Histogram)]
    groups: dict[str, list[MetricWrapperBase]] = {}
    for metric in found:
        groups.setdefault(metric._name.split("_")[1], []).append(metric)
    parts = [
        "# Metrics\n",
        NOTE,
        "Every service answers `GET /metrics` on its HTTP port in Prometheus' text format; serving also on port 8002.",
        "Labels are bounded: never an id of a frame, an asset, a camera or a person. A histogram `x` is exposed as",
        "`x_bucket`, `x_sum` and `x_count`. The client library adds `process_*` and `python_*`.\n",
    ]
    for name, several in groups.items():
        title = "Every service" if name == "common" else name
        parts += [f"## {title}\n", *table(("Metric", "Type", "Labels", "Meaning"), map(metric_row, several)), ""]
    return "\n".join(parts)


def metric_row(metric: MetricWrapperBase) -> Row:
    """(name as exposed, type, labels, meaning)."""
    name = metric._name + ("_total" if isinstance(metric, Counter) else "")
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    return f"`{name}`", type(metric).__name__.lower(), labels, words_of(metric._documentation)


# ---- topics ----


def topics_page() -> str:
    """Every topic of `proto/topics.yaml`."""
    parts = [
        "# Topics\n",
        NOTE,
        "Declared once, in `proto/topics.yaml`; `irisloop topics apply` makes what is missing, `irisloop up` calls it.",
        "Values are protobuf (`proto/irisloop/<owner>/v1/`), headers are CloudEvents 1.0 in binary mode and W3C",
        "`traceparent`. The [AsyncAPI 3 document](asyncapi.yaml) has every field and header.\n",
        "Partitions: `camera` is 6 on a laptop and 24 with `irisloop topics apply --cluster`; it cannot grow later.",
        "Consumers: `shared` divides the partitions among the instances of a service, group",
        "`irisloop.<service>.<handler>`; `stream` is shared and writes its outputs and offsets in one transaction;",
        "`every-instance` has no group and reads everything from the beginning. A shared or stream consumer has a",
        "dead-letter topic `<topic>.<service>.dlq`. Read with `isolation.level=read_committed`.\n",
        "`irisloop.ingest.frame.captured.v1` is the one topic that others write: see",
        "[connect a camera](../how-to/connect-a-camera.md).\n",
    ]
    for owner in dict.fromkeys(topic.name.split(".")[1] for topic in TOPICS):
        mine = [topic for topic in TOPICS if topic.name.split(".")[1] == owner]
        parts += [
            f"## {owner}\n",
            *table(("Topic", "Key", "Partitions", "Keeps", "Consumers"), map(topic_row, mine)),
            "",
        ]
    return "\n".join(parts)


def topic_row(topic: Topic[Any]) -> Row:
    """(name, key, partitions, what it keeps, who hears it)."""
    size = f", {topic.retention_bytes >> 20} MiB a partition" if topic.retention_bytes > 0 else ""
    keeps = "the newest of each key" if topic.compacted else f"{topic.retention_ms // 3_600_000} h{size}"
    heard = ", ".join(f"{one.service} `{one.handler}` ({one.mode})" for one in topic.consumers)
    return f"`{topic.name}`", f"`{topic.key}`", str(topic.partitions or "camera"), keeps, heard


# ---- command line ----


def cli_page() -> str:
    """Every command with its arguments and options."""
    parts = [
        "# Command line\n",
        NOTE,
        "`irisloop` is in `.venv/bin` after `make setup`, `make up` or `make demo`. Commands find what runs here in",
        "`IRISLOOP_HOME`; [settings](settings.md) point them elsewhere. An error is one sentence, and",
        "`irisloop --debug ...` shows where it came from.\n",
        "Exit codes: 0 done, 1 it could not be done, 2 it was asked wrongly, 130 interrupted.\n",
    ]
    for name, command in commands():
        usage = " ".join(["irisloop", name, *(argument_text(one) for one in command.params if is_argument(one))])
        parts += [f"## irisloop {name}\n", f"{words_of(command.help)}\n", f"```console\n{usage} [OPTIONS]\n```\n"]
        rows = [parameter_row(one) for one in command.params if one.name != "help"]
        parts += [*table(("Option", "Meaning"), rows), ""] if rows else []
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, Any]]:
    """(words after `irisloop`, the command); groups are opened."""
    top: Any = typer.main.get_command(app)
    for name, command in top.commands.items():
        if name == "demo":
            yield name, typer.main.get_command(demo())
        else:
            yield from opened(name, command)


def opened(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command, or the commands of a group, however deep."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for inner, one in command.commands.items():
        yield from opened(f"{name} {inner}", one)


def is_argument(parameter: Any) -> bool:
    """Whether it stands by its place and not by a name."""
    return bool(parameter.param_type_name == "argument")


def argument_text(parameter: Any) -> str:
    """As in a usage line."""
    name = str(parameter.metavar or parameter.name.upper()) + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def parameter_row(parameter: Any) -> Row:
    """(how it is written, meaning with its default)."""
    meaning = words_of(parameter.help)
    if is_argument(parameter):
        return f"`{argument_text(parameter)}`", meaning
    written = ", ".join(f"`{name}`" for name in parameter.opts)
    if parameter.is_flag:
        return written, meaning
    kind = parameter.type_descriptor.annotation
    again = " It may be repeated." if parameter.multiple and "repeat" not in meaning else ""
    default = getattr(parameter.default, "value", parameter.default)
    shown = "" if default in (None, "", 0) or parameter.multiple else f" Default `{default}`."
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"{written} NAME", f"{meaning} One of " + ", ".join(f"`{one.value}`" for one in kind) + "." + shown
    return f"{written} {placeholder(kind)}", meaning + again + shown


def placeholder(kind: Any) -> str:
    """What stands for a value in a usage line."""
    members = [one for one in get_args(kind) if one is not type(None)]
    inner = placeholder(members[0]) if members else ""
    return inner or {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(kind, "TEXT")


# ---- tables ----


def table(heads: Row, rows: Any) -> list[str]:
    """Lines of a Markdown table."""
    return [line(heads), line(["---"] * len(heads)), *(line(row) for row in rows)]


def line(cells: Row) -> str:
    """One row; a bar inside a cell is escaped."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def words_of(text: str | None) -> str:
    """A docstring as one line, without what Markdown would take for emphasis."""
    words = " ".join((text or "").split())
    return re.sub(r"(?<![`\w])([\w./-]*\*[\w./*-]*)(?!`)", r"`\1`", words)


if __name__ == "__main__":
    main(sys.argv[1:])
