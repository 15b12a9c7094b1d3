"""Who is told of an alert, and in which words: targets as a file names them, and the bodies that go out. Pure.

Webhooks are signed as the specification of Standard Webhooks has it (github.com/standard-webhooks/standard-webhooks).
Alertmanager's body is that of its API v2 (`POST /api/v2/alerts`). Mail is RFC 5322.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from services.monitor.errors import BrokenNotices

Severity: TypeAlias = Literal["page", "ticket"]
SEVERITIES: Final[tuple[Severity, ...]] = ("page", "ticket")
SECRET_PREFIX: Final = "whsec_"
"""Before a secret in base64, by the specification; a secret without it is taken as it is."""
NAME_CHARACTERS: Final = 40
CLOSED: Final = "closed"


@dataclass(frozen=True, slots=True)
class Notice:
    """An alert, as people are told of it."""

    id: str
    """The same at each attempt, by which a receiver knows a repeat."""
    model: str
    incident_id: str
    severity: str
    summary: str
    raised_at: datetime
    """UTC."""
    kind: str = ""
    """opened, escalated or closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What all kinds have. Models and severities that are not named are all wanted."""

    name: str
    """Letters, digits, `-`: the name of its consumer group, by which it goes on where it stopped."""
    severities: tuple[str, ...] = SEVERITIES
    models: tuple[str, ...] = ()
    max_age_hours: float = 24.0
    """An older alert is passed over: who was away for a week, or is new, is not told of what is long over."""

    def wants(self, notice: Notice) -> bool:
        """By severity and model."""
        return notice.severity in self.severities and (not self.models or notice.model in self.models)

    def is_over(self, notice: Notice, now: datetime) -> bool:
        """Whether it is too old to be told."""
        return now - notice.raised_at > timedelta(hours=self.max_age_hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(Target):
    """`POST` of JSON."""

    url: str
    secret_env: str = ""
    """Environment variable that holds the signing secret; unsigned when empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alertmanager(Target):
    """Prometheus's Alertmanager, which groups, silences and hands on."""

    url: str
    """As http://alertmanager:9093; the path is added."""
    hold_hours: float = 12.0
    """After that Alertmanager takes the alert for resolved."""

    def wants(self, notice: Notice) -> bool:
        """The end of an incident always, whatever the severity: it resolves what was told."""
        if notice.kind == CLOSED:
            return not self.models or notice.model in self.models
        return Target.wants(self, notice)


@dataclass(frozen=True, slots=True, kw_only=True)
class Email(Target):
    """Mail by SMTP (RFC 5321)."""

    server: str
    """host:port."""
    sender: str
    to: tuple[str, ...]
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password_env: str = ""
    """Environment variable that holds the password."""


KINDS: Final[Mapping[str, type[Webhook | Alertmanager | Email]]] = {
    "webhook": Webhook,
    "alertmanager": Alertmanager,
    "email": Email,
}
AnyTarget: TypeAlias = Webhook | Alertmanager | Email


def targets_of(document: Any) -> list[AnyTarget]:
    """The list under `targets` of a YAML document. Raises `BrokenNotices`, naming the field."""
    listed = document.get("targets") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise BrokenNotices("targets: a list is needed", field="targets")
    found = [_target(one, f"targets[{place}]") for place, one in enumerate(listed)]
    names = [one.name for one in found]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise BrokenNotices(f"targets[{place}].name: {name!r} is there twice", field=f"targets[{place}].name")
    return found


def _target(one: Any, where: str) -> AnyTarget:
    if not isinstance(one, Mapping) or one.get("kind") not in KINDS:
        raise BrokenNotices(f"{where}.kind: one of {', '.join(KINDS)} is needed", field=f"{where}.kind")
    kind = KINDS[one["kind"]]
    known = {field.name: field for field in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in one.items():
        if key == "kind":
            continue
        if key not in known:
            raise BrokenNotices(
                f"{where}.{key}: a {one['kind']} target has no such field; it has {', '.join(known)}",
                field=f"{where}.{key}",
            )
        values[key] = _value(str(known[key].type), value, f"{where}.{key}")
    try:
        target = kind(**values)
    except TypeError as error:
        raise BrokenNotices(f"{where}: {str(error).partition(') ')[2]}", field=where) from error
    _check(target, where)
    return target


def _value(kind: str, value: Any, where: str) -> Any:
    if kind.startswith("tuple"):
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            raise BrokenNotices(f"{where}: text, or a list of texts, is needed", field=where)
        return tuple(listed)
    if kind == "float":
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise BrokenNotices(f"{where}: a number above 0 is needed", field=where)
        return float(value)
    if not isinstance(value, str):
        raise BrokenNotices(f"{where}: text is needed", field=where)
    return value


def _check(target: AnyTarget, where: str) -> None:
    wrong = [word for word in target.severities if word not in SEVERITIES]
    if wrong:
        raise BrokenNotices(f"{where}.severities: {wrong[0]!r} is none of {', '.join(SEVERITIES)}", field=where)
    name = target.name
    if not name.replace("-", "").isalnum() or not name.isascii() or len(name) > NAME_CHARACTERS:
        raise BrokenNotices(f"{where}.name: letters, digits and - are needed, {NAME_CHARACTERS} at most", field=where)
    if isinstance(target, Email):
        if not target.to or target.security not in ("starttls", "tls", "none"):
            raise BrokenNotices(f"{where}: `to` is needed, and security starttls, tls or none", field=where)
        if not target.server.rpartition(":")[2].isdigit():
            raise BrokenNotices(f"{where}.server: host:port is needed", field=f"{where}.server")
    elif urlsplit(target.url).scheme not in ("http", "https") or not urlsplit(target.url).hostname:
        raise BrokenNotices(f"{where}.url: an address with http:// or https:// is needed", field=f"{where}.url")


# ---- what goes out ----


def webhook_body(notice: Notice) -> bytes:
    """JSON with `type`, `timestamp` and `data`, as Standard Webhooks proposes."""
    data = {
        "id": notice.id,
        "model": notice.model,
        "incident_id": notice.incident_id,
        "severity": notice.severity,
        "kind": notice.kind,
        "summary": notice.summary,
    }
    return _json({"type": "irisloop.alert.raised", "timestamp": notice.raised_at.isoformat(), "data": data})


def signed(notice: Notice, body: bytes, secret: str, sent_at: datetime) -> dict[str, str]:
    """The headers that a receiver checks: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`."""
    stamp = str(int(sent_at.timestamp()))
    headers = {"webhook-id": notice.id, "webhook-timestamp": stamp}
    if secret:
        mark = hmac.new(_key(secret), b".".join([notice.id.encode(), stamp.encode(), body]), hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(mark).decode()}"
    return headers


def _key(secret: str) -> bytes:
    plain = not secret.startswith(SECRET_PREFIX)
    return secret.encode() if plain else base64.b64decode(secret.removeprefix(SECRET_PREFIX))


def alertmanager_body(notice: Notice, target: Alertmanager) -> bytes:
    """One alert; an attempt made again is the same alert to Alertmanager, since its labels are. The end of an incident
    resolves its alerts of both severities.
    """
    over = notice.kind == CLOSED
    ends = notice.raised_at if over else notice.raised_at + timedelta(hours=target.hold_hours)
    alerts = [
        {
            "labels": {
                "alertname": "IrisloopDrift",
                "severity": severity,
                "model": notice.model,
                "incident_id": notice.incident_id,
            },
            "annotations": {"summary": notice.summary},
            "startsAt": notice.raised_at.isoformat(),
            "endsAt": ends.isoformat(),
        }
        for severity in (SEVERITIES if over else (notice.severity,))
    ]
    return _json(alerts)


def mail(notice: Notice, target: Email) -> EmailMessage:
    """Plain text; its Message-ID is the notice's, so that a repeat is known."""
    message = EmailMessage()
    message["From"], message["To"] = target.sender, ", ".join(target.to)
    message["Subject"] = " ".join(f"[{notice.severity}] {notice.model}: {notice.summary}".split())
    message["Date"] = format_datetime(notice.raised_at)
    message["Message-ID"] = f"<{notice.id}@irisloop>"
    lines: Sequence[str] = (
        notice.summary,
        "",
        f"model: {notice.model}",
        f"incident: {notice.incident_id}",
        f"since: {notice.raised_at.isoformat()}",
    )
    message.set_content("\n".join(lines) + "\n")
    return message


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
