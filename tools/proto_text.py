"""The contracts as text: a message with everything it is made of, cut out of the .proto files with its comments."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    SourceCodeInfo,
)

from tools.generate_proto import PROTO

# Field numbers of FileDescriptorProto that a location's path begins with (google/protobuf/descriptor.proto).
MESSAGES: Final = 4
ENUMS: Final = 5


@dataclass(frozen=True, slots=True)
class Definition:
    """A message or enum of ours: its source lines, the comment above it, and the names its fields refer to."""

    name: str
    file: str
    source: str
    comment: str
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contracts:
    """Every top-level message and enum, by full name, in the order of the files."""

    definitions: dict[str, Definition]

    @classmethod
    def load(cls) -> Contracts:
        """Compile proto/irisloop with its comments."""
        files = sorted(str(path.relative_to(PROTO)) for path in (PROTO / "irisloop").rglob("*.proto"))
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "contracts.binpb"
            command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", "--include_source_info"]
            subprocess.run([*command, f"--descriptor_set_out={target}", *files], check=True)
            compiled = FileDescriptorSet.FromString(target.read_bytes())
        return cls({found.name: found for file in compiled.file for found in _definitions(file)})

    def comment(self, name: str) -> str:
        """What its author wrote above it, on one line."""
        return self.definitions[name].comment

    def text(self, name: str) -> str:
        """A proto3 file: the message first, then all it needs of its package, and imports of the rest."""
        wanted, foreign = self._closure(name)
        package = name.rsplit(".", 1)[0]
        imports = [f'import "{file}";' for file in sorted({self._file(other) for other in foreign})]
        head = ['syntax = "proto3";', "", f"package {package};", "", *imports, *([""] if imports else [])]
        return "\n".join(head) + "\n" + "\n\n".join(self.definitions[each].source for each in wanted) + "\n"

    def _closure(self, name: str) -> tuple[list[str], set[str]]:
        package = name.rsplit(".", 1)[0]
        wanted, foreign = [name], set[str]()
        for each in wanted:
            for need in self.definitions[each].needs:
                if need.rsplit(".", 1)[0] != package:
                    foreign.add(need)
                elif need not in wanted:
                    wanted.append(need)
        return wanted, foreign

    def _file(self, name: str) -> str:
        return self.definitions[name].file if name in self.definitions else _well_known(name)


def _well_known(name: str) -> str:
    """`google.protobuf.Timestamp` -> the file that declares it; its kind has one message a file."""
    if not name.startswith("google.protobuf."):
        raise LookupError(f"{name} is declared neither under proto/irisloop nor by protobuf itself")
    return f"google/protobuf/{name.rsplit('.', 1)[1].lower()}.proto"


def _definitions(file: FileDescriptorProto) -> Iterator[Definition]:
    lines = (PROTO / file.name).read_text(encoding="utf-8").splitlines()
    for place in file.source_code_info.location:
        if len(place.path) != 2 or place.path[0] not in (MESSAGES, ENUMS):
            continue
        message = file.message_type[place.path[1]] if place.path[0] == MESSAGES else None
        name = message.name if message else file.enum_type[place.path[1]].name
        yield Definition(
            name=f"{file.package}.{name}",
            file=file.name,
            source=_source(lines, place),
            comment=" ".join(place.leading_comments.split()),
            needs=tuple(dict.fromkeys(_needs(message))) if message else (),
        )


def _source(lines: list[str], place: SourceCodeInfo.Location) -> str:
    """The definition's lines, with the comment lines right above it."""
    first, last = place.span[0], place.span[2] if len(place.span) == 4 else place.span[0]
    while first and lines[first - 1].startswith("//"):
        first -= 1
    return "\n".join(lines[first : last + 1])


def _needs(message: DescriptorProto) -> Iterator[str]:
    """Full names of the types that the fields have, nested ones (of maps, say) looked through."""
    own = {nested.name for nested in message.nested_type} | {nested.name for nested in message.enum_type}
    for field in message.field:
        if field.type in (FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_ENUM):
            name = field.type_name.removeprefix(".")
            if name.rsplit(".", 1)[1] not in own:
                yield name
    for nested in message.nested_type:
        yield from _needs(nested)
