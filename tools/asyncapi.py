"""Write docs/reference/asyncapi.yaml: every topic, who says and hears it, its headers and its message.

`python -m tools.asyncapi [FILE]` reads proto/topics.yaml and the contracts; `make proto` calls it.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import yaml

from tools.generate_proto import HOUR_MS, MIB, ROOT, load_topics
from tools.proto_text import Contracts

DOCUMENT: Final = ROOT / "docs" / "reference" / "asyncapi.yaml"
HEADING: Final = "# Made from proto/ by `make proto`; never edited.\n"
PROTOBUF: Final = "application/vnd.google.protobuf;version=3"
IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/webp")
FRAMES: Final = "irisloop.ingest.frame.captured.v1"

Tree = dict[str, Any]


def main() -> None:
    """Write the document."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENT
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(render(document(load_topics(), Contracts.load())), encoding="utf-8")


def document(topics: Tree, contracts: Contracts) -> Tree:
    """The AsyncAPI 3.0 document of all topics."""
    entries: dict[str, Tree] = topics["topics"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Irisloop's events",
            "version": project["version"],
            "description": "What travels over Kafka. Contracts only grow; what would break one gets a new topic.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/protobuf",
        "servers": {"laptop": {"host": "localhost:9092", "protocol": "kafka", "description": "The embedded broker."}},
        "channels": {
            **{name: channel(name, entry, topics["camera_partitions"]) for name, entry in entries.items()},
            **{f"{name}.dlq": dead_letters(name, entry) for name, entry in entries.items() if readers(entry)},
        },
        "operations": {key: value for name, entry in entries.items() for key, value in operations(name, entry)},
        "components": {
            "messages": {
                **{short(entry): message(entry, contracts) for entry in entries.values()},
                "PlainImage": plain_image(),
                "DeadLetter": dead_letter(),
            },
            "messageTraits": {"cloudEvents": cloud_events()},
        },
    }


def short(entry: Tree) -> str:
    """`irisloop.ingest.v1.AssetStored` -> `AssetStored`."""
    name: str = entry["message"].rsplit(".", 1)[1]
    return name


def readers(entry: Tree) -> list[str]:
    """The services whose handlers may dead-letter a record of the topic."""
    return [service for service, modes in entry["consumers"].items() if set(modes.values()) & {"shared", "stream"}]


def channel(name: str, entry: Tree, counts: Tree) -> Tree:
    """One topic with its Kafka settings."""
    by_camera = entry["partitions"] == "camera"
    names = [short(entry), *(["PlainImage"] if name == FRAMES else [])]
    kafka = {
        "topic": name,
        "partitions": counts["laptop"] if by_camera else entry["partitions"],
        "topicConfiguration": configuration(entry),
        "bindingVersion": "0.5.0",
    }
    says = f"Keyed by `{entry['key']}`; a message is at most {entry.get('max_message_mib', 1)} MiB."
    if by_camera:
        says += f" {counts['laptop']} partitions on a laptop, {counts['cluster']} on a cluster; it cannot grow later."
    return {
        "address": name,
        "description": says,
        "messages": {title: {"$ref": f"#/components/messages/{title}"} for title in names},
        "bindings": {"kafka": kafka},
    }


def configuration(entry: Tree) -> Tree:
    """The broker's settings of a topic, in Kafka's words."""
    keeps = entry["keeps"]
    if keeps == "compacted":
        retention: Tree = {"cleanup.policy": ["compact"]}
    else:
        retention = {"cleanup.policy": ["delete"], "retention.ms": keeps["hours"] * HOUR_MS}
        if "mib" in keeps:
            retention["retention.bytes"] = keeps["mib"] * MIB
    return retention


def dead_letters(name: str, entry: Tree) -> Tree:
    """The topics that hold what a service could not handle."""
    return {
        "address": f"{name}.{{service}}.dlq",
        "description": f"Records of `{name}` that a service could not handle; `irisloop dlq` lists and replays them.",
        "parameters": {"service": {"description": "The service that gave up on the record.", "enum": readers(entry)}},
        "messages": {"DeadLetter": {"$ref": "#/components/messages/DeadLetter"}},
    }


def operations(name: str, entry: Tree) -> list[tuple[str, Tree]]:
    """Who says it, and every handler that hears it."""
    where = {"$ref": f"#/channels/{name}"}
    producer = entry["producer"]
    said = {"action": "send", "channel": where, "summary": f"{producer} says it.", "tags": [{"name": producer}]}
    found: list[tuple[str, Tree]] = [(f"{producer}.says.{short(entry)}", said)]
    for service, handlers in entry["consumers"].items():
        for handler, mode in handlers.items():
            title = f"{service}.hears.{short(entry)}.{handler.removesuffix('-*')}"
            found.append((title, heard(where, service, handler, mode)))
    return found


def heard(where: Tree, service: str, handler: str, mode: str) -> Tree:
    """One consumer: its group, or none where every instance reads all partitions."""
    operation: Tree = {
        "action": "receive",
        "channel": where,
        "summary": f"{service}'s handler {handler}, {mode}.",
        "tags": [{"name": service}],
    }
    if mode != "every-instance":
        name = f"irisloop.{service}.{handler}"
        one_of = {"pattern": f"^{re.escape(name[:-1])}.+$"} if name.endswith("*") else {"enum": [name]}
        group = {"type": "string", **one_of}
        operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": "0.5.0"}}
    return operation


def message(entry: Tree, contracts: Contracts) -> Tree:
    """A protobuf message: its own comment, and the text of everything it is made of."""
    name = entry["message"]
    said = contracts.comment(name)
    return {
        "name": name,
        "title": short(entry),
        **({"summary": said} if said else {}),
        "contentType": "application/protobuf",
        "traits": [{"$ref": "#/components/messageTraits/cloudEvents"}],
        "payload": {"schemaFormat": PROTOBUF, "schema": contracts.text(name)},
        "bindings": {"kafka": {"key": {"type": "string", "description": entry["key"]}, "bindingVersion": "0.5.0"}},
    }


def plain_image() -> Tree:
    """The form of a captured frame that needs no protobuf."""
    text = {"type": "string"}
    return {
        "name": "image",
        "title": "A plain image",
        "summary": "A camera needs no protobuf: value = the image's bytes, key = camera id, and a content-type.",
        "contentType": "image/jpeg",
        "headers": {
            "type": "object",
            "required": ["content-type"],
            "properties": {
                "content-type": {**text, "enum": list(IMAGE_TYPES)},
                "captured-at": {
                    **text,
                    "format": "date-time",
                    "description": "RFC 3339; else the broker's arrival time.",
                },
                "ce_id": {**text, "description": "The same id again is the same frame again: dropped, counted."},
                "traceparent": {**text, "description": "W3C Trace Context."},
            },
            "patternProperties": {
                "^meta-.+$": {**text, "description": "Kept with the asset under the rest of the name."}
            },
        },
        "payload": {**text, "format": "binary", "description": "JPEG, PNG or WebP, at most 8 MiB."},
        "bindings": {"kafka": {"key": {**text, "description": "camera id"}, "bindingVersion": "0.5.0"}},
    }


def dead_letter() -> Tree:
    """What every dead-letter topic holds; a test compares the headers with what the kit writes."""
    says = {
        "letter-id": "UUID of the letter, the same when the same record fails again; `irisloop dlq show` takes it.",
        "reason": "Why, as a word that programs may rely on.",
        "error": "Why, as a sentence.",
        "handler": "<service>.<handler> that gave up; a replay reaches it alone.",
        "origin-topic": "Where the record came from.",
        "origin-partition": "",
        "origin-offset": "",
        "origin-time": "The record's timestamp, RFC 3339.",
    }
    names = {
        f"irisloop-{name}": {"type": "string", **({"description": said} if said else {})} for name, said in says.items()
    }
    return {
        "name": "dead-letter",
        "title": "A dead letter",
        "summary": "The record as it came, key, value and headers, with headers added that say why it is here.",
        "contentType": "application/octet-stream",
        "headers": {"type": "object", "required": list(names), "properties": names},
        "payload": {"type": "string", "format": "binary", "description": "The original bytes."},
    }


def cloud_events() -> Tree:
    """CloudEvents 1.0 in Kafka's binary mode, and W3C Trace Context."""
    text = {"type": "string"}
    return {
        "headers": {
            "type": "object",
            "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"],
            "properties": {
                "ce_specversion": {**text, "const": "1.0"},
                "ce_id": {**text, "description": "The same fact said again bears the same id."},
                "ce_source": {**text, "description": "The service that says it: /irisloop/<service>."},
                "ce_type": {**text, "description": "The protobuf message's full name."},
                "ce_time": {**text, "format": "date-time", "description": "The time of the fact's cause."},
                "content-type": {**text, "const": "application/protobuf"},
                "traceparent": {**text, "description": "W3C Trace Context."},
            },
        }
    }


class _Dumper(yaml.SafeDumper):
    """Blocks for texts of several lines; no anchors, so that each part can be read alone."""

    def ignore_aliases(self, data: object) -> bool:
        """Always spell out."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def render(tree: Tree) -> str:
    """As YAML, in the order of the tree."""
    return HEADING + yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    main()
