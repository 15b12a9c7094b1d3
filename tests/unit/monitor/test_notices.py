"""Who is told of an alert: files that name them, what they get, and what happens when they do not take it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_string
from typing import Any

import pytest
from irisloop.monitor.v1 import monitor_pb2
from irisloop.topics import ALERT_RAISED

from services.common.bus import Event, MemoryBroker, MemoryBus
from services.common.bus.deadletter import read_letter
from services.common.errors import Transient
from services.monitor.domain.notices import (
    Alertmanager,
    AnyTarget,
    Email,
    Notice,
    Webhook,
    alertmanager_body,
    signed,
    targets_of,
)
from services.monitor.errors import BrokenNotices, Undeliverable
from services.monitor.inbound import notices
from services.monitor.outbound.notifying import Sender
from tests.contract.houses import letters_of, running
from tests.unit.monitor.receivers import post_office, web
from tests.waiting import until

AT = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)
NOTICE = Notice("alert-1", "parts", "incident-1", "page", "parts is wrong\nmore often: größer", AT, "escalated")


def event(number: int, severity: str = "page", model: str = "parts", at: datetime = AT) -> Event[Any]:
    value = monitor_pb2.AlertRaised(
        id=f"alert-{number}", model=model, incident_id="incident", severity=severity, summary="wrong more often"
    )
    return Event(ALERT_RAISED, model, value, value.id, at)


async def tell(targets: Sequence[AnyTarget], events: Sequence[Event[Any]], ends: int) -> list[tuple[str, str]]:
    """Run until so many notices have ended, taken or refused; the dead letters' handlers and ids."""
    bus, sender, ended = MemoryBus(MemoryBroker(), service="monitor"), Sender({}), 0

    async def send(target: AnyTarget, notice: Notice) -> None:
        nonlocal ended
        try:
            await sender.send(target, notice)
        except Undeliverable:
            ended += 1
            raise
        ended += 1

    notices.subscribe(bus, targets, send, lambda: AT)
    async with running(bus):
        await bus.publish(events)
        await until(lambda: ended >= ends and all(heard(bus, target) for target in targets))
        return [(read_letter(one).handler, (one.header("ce_id") or b"").decode()) for one in await letters(bus)]


def heard(bus: MemoryBus, target: AnyTarget) -> bool:
    """Whether a target's reading has come to the end, dead letters written."""
    group, broker = f"irisloop.monitor.tell-{target.name}", bus.broker
    return all(
        broker.committed[group, topic, partition] >= len(log)
        for (topic, partition), log in list(broker.logs.items())
        if topic == ALERT_RAISED.name
    )


async def letters(bus: MemoryBus) -> Any:
    topic: Any = ALERT_RAISED
    return await letters_of(bus, topic, "monitor")


async def test_a_webhook_gets_json_and_a_signature_that_can_be_checked() -> None:
    with web() as kept:
        target = Webhook(name="hook", url=f"{kept.url}/here", secret_env="SECRET")
        secret = "whsec_" + base64.b64encode(b"a good key").decode()
        await Sender({"SECRET": secret}, lambda: AT).send(target, NOTICE)
    (post,) = kept.posts
    assert post.path == "/here"
    assert json.loads(post.body)["data"] == {
        "id": "alert-1",
        "model": "parts",
        "incident_id": "incident-1",
        "severity": "page",
        "kind": "escalated",
        "summary": NOTICE.summary,
    }
    content = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}.".encode() + post.body
    mark = base64.b64encode(hmac.new(b"a good key", content, hashlib.sha256).digest()).decode()
    assert post.headers["webhook-signature"] == f"v1,{mark}"
    assert post.headers["webhook-id"] == "alert-1"


def test_the_signature_is_the_specification_s_example() -> None:
    """github.com/standard-webhooks/standard-webhooks, the libraries' common test vector."""
    notice = Notice("msg_p5jXN8AQM9LWM0D4loKWxJek", "", "", "page", "", AT)
    headers = signed(
        notice,
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        datetime.fromtimestamp(1614265330, UTC),
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_alertmanager_gets_an_alert_of_its_api() -> None:
    with web() as kept:
        await Sender({}).send(Alertmanager(name="am", url=f"{kept.url}/", hold_hours=2), NOTICE)
    (post,) = kept.posts
    (alert,) = json.loads(post.body)
    assert post.path == "/api/v2/alerts"
    assert alert["labels"] == {
        "alertname": "IrisloopDrift",
        "severity": "page",
        "model": "parts",
        "incident_id": "incident-1",
    }
    assert datetime.fromisoformat(alert["endsAt"]) - datetime.fromisoformat(alert["startsAt"]) == timedelta(hours=2)


async def test_a_mail_says_what_happened() -> None:
    async with post_office() as kept:
        target = Email(name="mail", server=kept.server, sender="loop@here", to=("a@there", "b@there"), security="none")
        await Sender({}).send(target, NOTICE)
        kept.answers = ["452 full"]
        with pytest.raises(Transient, match="full"):
            await Sender({}).send(target, NOTICE)
        kept.answers = ["550 never"]
        with pytest.raises(Undeliverable, match="never"):
            await Sender({}).send(target, NOTICE)
    message = message_from_string(kept.mails[0])
    assert message["To"] == "a@there, b@there"
    assert message["Message-ID"] == "<alert-1@irisloop>"
    assert "\n" not in str(message["Subject"])
    assert kept.mails[0].count("incident-1") == 1


async def test_what_may_pass_is_tried_again_and_what_will_not_is_kept() -> None:
    with web() as kept:
        kept.answers = [500, 429, 204, 400, 204]
        target = Webhook(name="hook", url=kept.url)
        found = await tell([target], [event(1), event(2), event(3)], 3)
    assert [post.headers["webhook-id"] for post in kept.posts] == ["alert-1"] * 3 + ["alert-2", "alert-3"]
    assert found == [("tell-hook", "alert-2")]


async def test_a_redirect_is_not_followed() -> None:
    with web() as kept:
        kept.answers = [302]
        with pytest.raises(Undeliverable, match="302"):
            await Sender({}).send(Webhook(name="hook", url=kept.url), NOTICE)
    assert len(kept.posts) == 1


async def test_nobody_waits_for_one_who_is_away() -> None:
    with web() as kept:
        away = Webhook(name="away", url="http://127.0.0.1:9")
        bus = MemoryBus(MemoryBroker(), service="monitor")
        notices.subscribe(bus, [away, Webhook(name="here", url=kept.url)], Sender({}).send, lambda: AT)
        async with running(bus):
            await bus.publish([event(number) for number in range(3)])
            await until(lambda: len(kept.posts) >= 3)
            assert await letters(bus) == []


async def test_each_is_told_what_it_wants_and_not_what_is_long_over() -> None:
    with web() as kept:
        pages = Webhook(name="pages", url=f"{kept.url}/pages", severities=("page",))
        screws = Webhook(name="screws", url=f"{kept.url}/screws", models=("screws",), max_age_hours=1)
        events = [event(1, "ticket"), event(2), event(3, "ticket", "screws"), event(4, at=AT - timedelta(hours=25))]
        events.append(event(5, model="screws", at=AT - timedelta(hours=2)))
        await tell([pages, screws], events, 3)
    told = {(post.path, post.headers["webhook-id"]) for post in kept.posts}
    assert told == {("/pages", "alert-2"), ("/screws", "alert-3"), ("/pages", "alert-5")}


async def test_a_secret_that_is_not_set_is_waited_for() -> None:
    with pytest.raises(Transient, match="SECRET is not set"):
        await Sender({}).send(Webhook(name="hook", url="http://127.0.0.1:9", secret_env="SECRET"), NOTICE)


def test_a_file_names_them() -> None:
    found = targets_of(
        {
            "targets": [
                {"kind": "webhook", "name": "a", "url": "https://x/y", "severities": "page", "max_age_hours": 2},
                {"kind": "alertmanager", "name": "b", "url": "http://am:9093", "models": ["m"]},
                {"kind": "email", "name": "c", "server": "mail:587", "sender": "s@x", "to": ["t@x"]},
            ]
        }
    )
    assert found == [
        Webhook(name="a", url="https://x/y", severities=("page",), max_age_hours=2.0),
        Alertmanager(name="b", url="http://am:9093", models=("m",)),
        Email(name="c", server="mail:587", sender="s@x", to=("t@x",)),
    ]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "targets: a list"),
        ({"targets": [{"name": "a"}]}, r"targets\[0\].kind"),
        ({"targets": [{"kind": "webhook", "name": "a"}]}, r"targets\[0\].*url"),
        ({"targets": [{"kind": "webhook", "name": "a", "url": "ftp://x"}]}, r"targets\[0\].url"),
        ({"targets": [{"kind": "webhook", "name": "a b", "url": "http://x"}]}, r"targets\[0\].name"),
        ({"targets": [{"kind": "webhook", "name": "a", "url": "http://x", "hold_hours": 1}]}, "no such field"),
        ({"targets": [{"kind": "webhook", "name": "a", "url": "http://x", "severities": ["x"]}]}, "severities"),
        ({"targets": [{"kind": "webhook", "name": "a", "url": "http://x", "max_age_hours": 0}]}, "above 0"),
        ({"targets": [{"kind": "webhook", "name": "a", "url": "http://x"}] * 2}, r"targets\[1\].name.*twice"),
        ({"targets": [{"kind": "email", "name": "a", "server": "x", "sender": "s", "to": "t"}]}, r"server"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_field(document: Any, said: str) -> None:
    with pytest.raises(BrokenNotices, match=said):
        targets_of(document)


def test_the_end_of_an_incident_resolves_what_alertmanager_was_told_of_it() -> None:
    end = replace(NOTICE, severity="ticket", kind="closed")
    pages_only = Alertmanager(name="am", url="http://am:9093", severities=("page",))
    assert pages_only.wants(end)
    assert not Webhook(name="hook", url="http://x", severities=("page",)).wants(end)
    alerts = json.loads(alertmanager_body(end, pages_only))
    assert {alert["labels"]["severity"] for alert in alerts} == {"page", "ticket"}
    assert all(alert["endsAt"] == AT.isoformat() == alert["startsAt"] for alert in alerts)
