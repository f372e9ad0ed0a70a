"""Delivers a notice to one channel, whichever type it is. Repeating what fails is the outbox's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from registry.core.clock import Clock
from registry.core.egress import Egress, Response
from registry.core.errors import GatehouseError, Invalid
from registry.core.outbox import JobRefused
from registry.notifications.configs import ChannelType, key_of
from registry.notifications.errors import AppriseMissing, DeliveryFailed, MailNotConfigured
from registry.notifications.notice import Notice

SECONDS = 15.0
MAX_ANSWER = 64 * 1024
_PAGERDUTY = {"critical": "critical", "warning": "warning", "info": "info"}


class SmtpUrlInvalid(Invalid):
    pass


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over."""

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None
    sender: str


def parse_smtp_url(url: str) -> MailServer:
    """Read `smtp://user:password@host:587?from=gatehouse@example.com`, or `smtps://` for TLS from the beginning.

    Raises:
        SmtpUrlInvalid: it is none; the message does not repeat it, since it may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise SmtpUrlInvalid(
            "GATEHOUSE_SMTP_URL must be like smtp://user:password@host:587?from=gatehouse@example.com."
        )
    tls = parts.scheme == "smtps"
    sender = parse_qs(parts.query).get("from", [f"gatehouse@{parts.hostname}"])[0]
    return MailServer(
        parts.hostname,
        port or (465 if tls else 587 if parts.username else 25),
        tls,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        sender,
    )


class Senders:
    """Args: smtp_url: of the mail server, or `None` if there is none."""

    def __init__(self, egress: Egress, clock: Clock, smtp_url: str | None) -> None:
        self._egress = egress
        self._clock = clock
        self._mail = parse_smtp_url(smtp_url) if smtp_url else None

    async def send(self, kind: ChannelType, config: dict[str, Any], notice: Notice, delivery_id: str) -> None:
        """Deliver a notice.

        Args:
            config: whole, with its secrets.
            delivery_id: the same whenever this delivery is tried again, so that a receiver can tell.

        Raises:
            DeliveryFailed, EgressFailed: trying again may help.
            MailNotConfigured, AppriseMissing: once that is mended.
            JobRefused: the receiver wants nothing any more.
        """
        match kind:
            case "email":
                await self._send_mail(config, notice, delivery_id)
            case "slack":
                await self._send_slack(config, notice)
            case "webhook":
                await self._send_webhook(config, notice, delivery_id)
            case "pagerduty":
                await self._send_pagerduty(config, notice)
            case "apprise":
                await _send_apprise(config, notice)

    async def _send_mail(self, config: dict[str, Any], notice: Notice, delivery_id: str) -> None:
        if self._mail is None:
            raise MailNotConfigured
        # Heavy vendor, imported at the first mail.
        import aiosmtplib

        mail, server = EmailMessage(), self._mail
        mail["From"], mail["To"] = server.sender, ", ".join(config["recipients"])
        mail["Subject"] = " ".join(notice.title.split())
        mail["Message-ID"] = f"<{delivery_id}@gatehouse>"
        mail["Date"] = self._clock.now()
        mail.set_content(notice.text)
        try:
            await aiosmtplib.send(
                mail,
                hostname=server.host,
                port=server.port,
                username=server.user,
                password=server.password,
                use_tls=server.tls,
                timeout=SECONDS,
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryFailed(f"The mail server did not take the mail: {error}") from error

    async def _send_slack(self, config: dict[str, Any], notice: Notice) -> None:
        body: dict[str, Any] = {"text": f"*{notice.title}*\n{notice.text}"}
        if config.get("channel"):
            body["channel"] = config["channel"]
        await self._post(config["webhook_url"], json.dumps(body).encode(), {})

    async def _send_webhook(self, config: dict[str, Any], notice: Notice, delivery_id: str) -> None:
        body = json.dumps(
            {"type": notice.event, "timestamp": notice.at, "data": notice.model_dump(exclude={"event", "at"})}
        ).encode()
        stamp = str(int(self._clock.now().timestamp()))
        signed = b"%b.%b.%b" % (delivery_id.encode(), stamp.encode(), body)
        signature = base64.b64encode(hmac.digest(key_of(config["secret"]), signed, hashlib.sha256)).decode()
        headers = {"webhook-id": delivery_id, "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}
        await self._post(config["url"], body, {**config["headers"], **headers})

    async def _send_pagerduty(self, config: dict[str, Any], notice: Notice) -> None:
        event = {
            "routing_key": config["routing_key"],
            "event_action": "resolve" if notice.event == "alert.resolved" else "trigger",
            "dedup_key": notice.subject_id,
            "payload": {
                "summary": f"{notice.title}: {notice.message}"[:1024],
                "source": notice.server_name,
                "severity": _PAGERDUTY.get(notice.severity, "error"),
                "timestamp": notice.at,
                "custom_details": notice.details,
            },
        }
        await self._post(config["url"], json.dumps(event).encode(), {})

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> Response:
        sent = {"Content-Type": "application/json", **headers}
        try:
            answer = await self._egress.client.request(
                "POST", url, headers=sent, data=body, timeout=SECONDS, max_bytes=MAX_ANSWER
            )
        except GatehouseError as error:
            # Its message names the host at most: the rest of the address may be a secret.
            raise DeliveryFailed(error.message) from error
        if answer.status == 410:
            raise JobRefused("The receiver answered 410 Gone: it wants no more notices.")
        if not answer.ok:
            raise DeliveryFailed(f"The receiver answered {answer.status}.")
        return answer


async def _send_apprise(config: dict[str, Any], notice: Notice) -> None:
    # In a thread: it speaks to its services synchronously, and takes a second to import.
    done = await asyncio.to_thread(_notify, list(config["urls"]), notice.title, notice.text)
    if not done:
        raise DeliveryFailed("At least one of the channel's services did not take the notice.")


def _notify(urls: list[str], title: str, text: str) -> bool:
    try:
        # Heavy vendor, and an extra: imported at the first notice.
        import apprise
    except ImportError:
        raise AppriseMissing from None
    services: Any = apprise.Apprise()
    for url in urls:
        if not services.add(url):
            raise JobRefused("apprise does not know one of the channel's urls.")
    return bool(services.notify(title=title, body=text))
