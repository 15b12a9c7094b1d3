"""Sends notices by HTTP and SMTP: one attempt, in a thread, with a time limit. The bus tries again what may pass."""

from __future__ import annotations

import asyncio
import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from services.common.errors import Transient
from services.monitor.domain.notices import (
    Alertmanager,
    AnyTarget,
    Email,
    Notice,
    Webhook,
    alertmanager_body,
    mail,
    signed,
    webhook_body,
)
from services.monitor.errors import Undeliverable

TIMEOUT_S: Final = 10.0
PASSING: Final = frozenset({408, 425, 429})
"""Of 4xx: those that may pass (RFC 9110, RFC 8470, RFC 6585); so may all 5xx."""
SHOWN: Final = 200
"""Characters of a receiver's answer in an error."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its body."""

    def redirect_request(self, *_: object) -> None:
        return None


class Sender:
    """One attempt a call."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, clock: Callable[[], datetime] | None = None
    ) -> None:
        """`environment` holds the secrets that targets name."""
        self._environment = os.environ if environment is None else environment
        self._clock = clock or (lambda: datetime.now(UTC))
        self._opener = urllib.request.build_opener(_NoRedirects)

    async def send(self, target: AnyTarget, notice: Notice) -> None:
        """Raises `Transient` for what may pass, `Undeliverable` for what will not."""
        match target:
            case Webhook():
                body = webhook_body(notice)
                headers = signed(notice, body, self._secret(target.secret_env), self._clock())
                await asyncio.to_thread(self._post, target.url, body, headers)
            case Alertmanager():
                url = target.url.rstrip("/") + "/api/v2/alerts"
                await asyncio.to_thread(self._post, url, alertmanager_body(notice, target), {})
            case Email():
                await asyncio.to_thread(self._mail, target, notice)

    def _secret(self, name: str) -> str:
        """Raises `Transient` when it is not set: a person has to do that, and no alert is lost meanwhile."""
        found = self._environment.get(name, "") if name else ""
        if name and not found:
            raise Transient(f"The environment variable {name} is not set, which a target of notices names.")
        return found

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        heads = {"content-type": "application/json", "user-agent": "irisloop", **headers}
        request = urllib.request.Request(url, body, heads, method="POST")
        try:
            with self._opener.open(request, timeout=TIMEOUT_S):
                pass
        except urllib.error.HTTPError as error:
            with error:
                said = f"{url} answered {error.code}: {error.read(SHOWN).decode('utf-8', 'replace')}"
            if error.code >= 500 or error.code in PASSING:
                raise Transient(said) from error
            raise Undeliverable(said) from error
        except (OSError, ValueError) as error:
            raise Transient(f"{url} cannot be reached: {error}") from error

    def _mail(self, target: Email, notice: Notice) -> None:
        host, _, port = target.server.rpartition(":")
        trust = ssl.create_default_context()
        try:
            if target.security == "tls":
                client: smtplib.SMTP = smtplib.SMTP_SSL(host, int(port), timeout=TIMEOUT_S, context=trust)
            else:
                client = smtplib.SMTP(host, int(port), timeout=TIMEOUT_S)
            with client:
                if target.security == "starttls":
                    client.starttls(context=trust)
                if target.user:
                    client.login(target.user, self._secret(target.password_env))
                client.send_message(mail(notice, target))
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            if _is_final(error):
                raise Undeliverable(f"{target.server} refused the mail: {error}") from error
            raise Transient(f"{target.server} did not take the mail: {error}") from error
        except (OSError, smtplib.SMTPException) as error:
            raise Transient(f"{target.server} did not take the mail: {error}") from error


def _is_final(error: smtplib.SMTPException) -> bool:
    """Codes from 500 on are (RFC 5321, 4.2.1)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPResponseException) and error.smtp_code >= 500
