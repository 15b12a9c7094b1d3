"""Generate Python from the contracts: messages, stubs, types, and the typed constants of proto/topics.yaml.

`python -m tools.generate_proto [FOLDER]` writes to proto/gen, or to a folder of the caller's for comparison.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
PROTO: Final = ROOT / "proto"
HOUR_MS: Final = 3_600_000
MIB: Final = 1 << 20


def main() -> None:
    """Generate everything, stubs first."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO / "gen"
    target.mkdir(parents=True, exist_ok=True)
    generate_stubs(target)
    (target / "irisloop" / "topics.py").write_text(topics_module(load_topics()), encoding="utf-8")
    mark_packages(target)


def generate_stubs(target: Path) -> None:
    """Run protoc over irisloop's packages and over the Open Inference Protocol, each with its own root."""
    own = sorted(str(path.relative_to(PROTO)) for path in (PROTO / "irisloop").rglob("*.proto"))
    protoc(PROTO, target, own)
    published = sorted(path.name for path in (PROTO / "inference").glob("*.proto"))
    if published:
        (target / "inference").mkdir(exist_ok=True)
        protoc(PROTO / "inference", target / "inference", published)
        absolute_imports(target / "inference")


def protoc(root: Path, target: Path, files: list[str]) -> None:
    """One protoc call; `mypy-protobuf` adds the types."""
    outputs = ("python", "grpc_python", "mypy", "mypy_grpc")
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}" for name in outputs[2:]
    ]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", *plugins]
    subprocess.run([*command, *(f"--{name}_out={target}" for name in outputs), *files], check=True)


def absolute_imports(folder: Path) -> None:
    """The published files import each other by bare name, which as a package they cannot."""
    modules = [path.name.removesuffix(".py") for path in folder.glob("*_pb2.py")]
    for path in [*folder.glob("*.py"), *folder.glob("*.pyi")]:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for module in modules:
            lines = [f"from inference {line}" if line.startswith(f"import {module} as ") else line for line in lines]
            lines = [line.replace(f"import {module}\n", f"from inference import {module}\n") for line in lines]
        path.write_text("".join(lines), encoding="utf-8")


def mark_packages(target: Path) -> None:
    """Every folder becomes a typed package."""
    for folder in sorted({path.parent for path in target.rglob("*.py")} | {target / "irisloop"}):
        parents = [folder, *folder.parents]
        for package in parents[: parents.index(target)]:
            (package / "__init__.py").touch()
    for package in target.iterdir():
        if package.is_dir() and package.name != "__pycache__":
            (package / "py.typed").touch()


def load_topics() -> dict[str, Any]:
    """proto/topics.yaml as it stands."""
    document: dict[str, Any] = yaml.safe_load((PROTO / "topics.yaml").read_text(encoding="utf-8"))
    return document


def constant(message: str) -> str:
    """`irisloop.ingest.v1.AssetStored` -> `ASSET_STORED`."""
    name = message.rsplit(".", 1)[1]
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).lstrip("_").upper()


def topics_module(document: dict[str, Any]) -> str:
    """The module's source."""
    topics = document["topics"]
    owners = sorted({entry["message"].split(".")[1] for entry in topics.values()})
    lines = [
        '"""Every topic as a typed constant. Generated from proto/topics.yaml by `make proto`; never edited."""',
        "",
    ]
    lines += ["from __future__ import annotations", "", "from typing import Any, Final", ""]
    lines += [f"from irisloop.{owner}.v1 import {owner}_pb2" for owner in owners]
    lines += ["", "from services.common.bus.api import Consumer, Topic", ""]
    counts = document["camera_partitions"]
    lines += ["# A topic with `partitions=0` is keyed by camera and takes the deployment's count."]
    lines += [f"CAMERA_PARTITIONS: Final = {{'laptop': {counts['laptop']}, 'cluster': {counts['cluster']}}}", ""]
    for name, entry in topics.items():
        lines += topic_lines(name, entry)
    lines += ["", "TOPICS: Final[tuple[Topic[Any], ...]] = ("]
    lines += [f"    {constant(entry['message'])}," for entry in topics.values()]
    return "\n".join([*lines, ")", ""])


def topic_lines(name: str, entry: dict[str, Any]) -> list[str]:
    """One constant."""
    _, owner, _, message = entry["message"].split(".")
    keeps = entry["keeps"]
    compacted = keeps == "compacted"
    consumers = [
        f"Consumer({service!r}, {handler!r}, {mode!r})"
        for service, handlers in entry["consumers"].items()
        for handler, mode in handlers.items()
    ]
    return [
        f"{constant(entry['message'])}: Final[Topic[{owner}_pb2.{message}]] = Topic(",
        f"    name={name!r},",
        f"    message={owner}_pb2.{message},",
        f"    key={entry['key']!r},",
        f"    producer={entry['producer']!r},",
        f"    consumers=({', '.join(consumers)}{',' if consumers else ''}),",
        f"    partitions={0 if entry['partitions'] == 'camera' else entry['partitions']},",
        f"    retention_ms={-1 if compacted else keeps['hours'] * HOUR_MS},",
        f"    retention_bytes={-1 if compacted or 'mib' not in keeps else keeps['mib'] * MIB},",
        f"    compacted={compacted},",
        f"    max_message_bytes={entry.get('max_message_mib', 1) * MIB},",
        f"    log_append_time={entry.get('timestamp') == 'arrival'},",
        ")",
    ]


if __name__ == "__main__":
    main()
