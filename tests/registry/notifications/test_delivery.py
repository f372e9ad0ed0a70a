"""Notices get through: by mail to a real server, over HTTP to real receivers, signed, repeated, and replayed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope
from sqlalchemy import select

from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.egress import Egress, EgressPolicy
from registry.core.events import EventBus
from registry.core.outbox import OutboxJob, OutboxWorker, Retries
from registry.core.security import Sealer
from registry.identity.principal import Principal
from registry.jobs.service import JobService
from registry.notifications.configs import ChannelType
from registry.notifications.errors import AppriseNeedsOperator, DeliveryFailed, MailNotConfigured
from registry.notifications.models import NotificationChannel
from registry.notifications.notice import Notice
from registry.notifications.senders import Senders, SmtpUrlInvalid, parse_smtp_url
from registry.notifications.service import TOPIC, NotificationService
from registry.servers.models import Server
from tests.registry.servers.house import House, furnish
from tests.support.canary import Canary, canary, http_answer
from tests.support.clock import SettableClock
from tests.support.identity import MASTER

RETRIES = Retries(most=3, first_seconds=1, last_seconds=1)


@dataclass
class Receiver:
    """An HTTP receiver; answers with `status`."""

    status: int = 200
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    listener: Canary | None = None

    def answer(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = (line.partition(":") for line in head.decode().split("\r\n")[1:])
        self.requests.append(({name.lower(): value.strip() for name, _, value in lines}, body))
        return http_answer(self.status, b"{}")

    @property
    def url(self) -> str:
        assert self.listener is not None
        return self.listener.url + "hook"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    async with canary(made.answer) as listener:
        made.listener = listener
        yield made


@dataclass
class Post:
    house: House
    server: Server
    egress: Egress
    worker: OutboxWorker
    service: NotificationService

    @property
    def clock(self) -> SettableClock:
        return self.house.clock

    @property
    def admin(self) -> Principal:
        return self.house.admin.principal

    def with_mail(self, url: str) -> None:
        self.service._senders = Senders(self.egress, self.clock, url)

    async def channel(self, kind: ChannelType, **config: Any) -> tuple[str, dict[str, Any]]:
        async with self.house.database.transaction() as session:
            made, secrets = await self.service.create(
                session, self.admin, self.server.id, name="ours", kind=kind, config=config
            )
            return made.id, secrets

    async def announce(self, event: str = "alert.raised") -> Notice:
        notice = Notice(
            event=event,  # type: ignore[arg-type]
            subject_id="0b5b3a1c",
            type="server_unreachable",
            severity="critical",
            message="The server cannot be used",
            server_id=self.server.id,
            server_name=self.server.name,
            at=self.clock.now().isoformat(),
            details={"threshold": 5},
        )
        async with self.house.database.transaction() as session:
            await self.service.announce(session, self.admin.org_id, notice)
        return notice

    async def deliver(self) -> None:
        await self.worker.tick()
        await self.worker.idle()

    async def job(self) -> OutboxJob:
        async with self.house.database.reading() as session:
            return (await session.scalars(select(OutboxJob))).one()


@pytest.fixture
async def post(database: Database, events: EventBus) -> AsyncIterator[Post]:
    house = await furnish(database)
    server = await house.register("notes")
    egress = Egress(EgressPolicy(local_mode=True))
    senders = Senders(egress, house.clock, None)
    service = NotificationService(house.clock, AuditService(house.clock), Sealer(MASTER, "notifications"), senders)
    worker = OutboxWorker(database, house.clock, events)
    worker.handle(TOPIC, lambda job: service.deliver(database, job), RETRIES)
    yield Post(house, server, egress, worker, service)
    await worker.stop()
    await egress.close()


async def test_a_webhook_is_signed_so_that_its_receiver_can_tell(post: Post, receiver: Receiver) -> None:
    _, secrets = await post.channel("webhook", url=receiver.url, headers={"X-Ours": "1"})
    notice = await post.announce()
    await post.deliver()
    ((headers, body),) = receiver.requests
    key = base64.b64decode(secrets["secret"].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert int(headers["webhook-timestamp"]) == post.clock.now().timestamp()
    assert (headers["x-ours"], headers["content-type"]) == ("1", "application/json")
    sent = json.loads(body)
    assert (sent["type"], sent["data"]["message"]) == ("alert.raised", notice.message)


async def test_a_failing_receiver_is_tried_again_dead_lettered_and_replayed(post: Post, receiver: Receiver) -> None:
    await post.channel("webhook", url=receiver.url)
    await post.announce()
    receiver.status = 500
    for _ in range(RETRIES.most):
        await post.deliver()
        post.clock.advance(1)
    job = await post.job()
    assert (job.status, job.last_error) == ("dead", "The receiver answered 500.")
    assert len(receiver.requests) == RETRIES.most
    # One delivery, however often it is tried.
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    receiver.status = 200
    async with post.house.database.transaction() as session:
        await JobService(post.clock, AuditService(post.clock)).replay(session, post.admin, job.id)
    await post.deliver()
    assert ((await post.job()).status, len(receiver.requests)) == ("done", RETRIES.most + 1)


async def test_a_receiver_that_is_gone_is_not_tried_again(post: Post, receiver: Receiver) -> None:
    await post.channel("webhook", url=receiver.url)
    receiver.status = 410
    await post.announce()
    await post.deliver()
    assert ((await post.job()).status, len(receiver.requests)) == ("dead", 1)


async def test_slack_gets_its_text(post: Post, receiver: Receiver) -> None:
    await post.channel("slack", webhook_url=receiver.url, channel="#alerts")
    await post.announce()
    await post.deliver()
    sent = json.loads(receiver.requests[0][1])
    assert sent["channel"] == "#alerts"
    assert sent["text"].startswith("*[critical] notes: server_unreachable raised*\nThe server cannot be used")


async def test_pagerduty_is_triggered_and_resolved_under_one_key(post: Post, receiver: Receiver) -> None:
    await post.channel("pagerduty", routing_key="R0", url=receiver.url)
    for event in ("alert.raised", "alert.resolved"):
        await post.announce(event)
        await post.deliver()
    raised, resolved = (json.loads(body) for _, body in receiver.requests)
    assert (raised["event_action"], resolved["event_action"]) == ("trigger", "resolve")
    assert raised["dedup_key"] == resolved["dedup_key"] == "0b5b3a1c"
    assert (raised["routing_key"], raised["payload"]["severity"]) == ("R0", "critical")


# The vendor's own import, on Python 3.11 and 3.12.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
async def test_apprise_speaks_for_other_services(post: Post, receiver: Receiver) -> None:
    await post.channel("apprise", urls=[receiver.url.replace("http://", "json://")])
    await post.announce()
    await post.deliver()
    assert (await post.job()).status == "done"
    assert json.loads(receiver.requests[0][1])["title"] == "[critical] notes: server_unreachable raised"
    member = Principal(post.admin.org_id, post.admin.user_id, "admin", frozenset({"mcp:health:manage"}))
    with pytest.raises(AppriseNeedsOperator):
        async with post.house.database.transaction() as session:
            await post.service.create(
                session, member, post.server.id, name="a", kind="apprise", config={"urls": ["json://a.test"]}
            )


class Sink:
    """Takes mail."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 taken"


async def test_mail_reaches_a_real_server(post: Post) -> None:
    sink = Sink()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(sink, loop=loop), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        post.with_mail(f"smtp://127.0.0.1:{port}?from=gatehouse@acme.test")
        await post.channel("email", recipients=["ada@acme.test", "max@acme.test"])
        await post.announce()
        await post.deliver()
    assert (await post.job()).status == "done"
    ((recipients, mail),) = sink.mails
    assert recipients == ["ada@acme.test", "max@acme.test"]
    assert (mail["From"], mail["Subject"]) == ("gatehouse@acme.test", "[critical] notes: server_unreachable raised")
    assert "The server cannot be used" in str(mail.get_payload())


async def test_a_channel_can_be_tried(post: Post, receiver: Receiver) -> None:
    channel_id, _ = await post.channel("slack", webhook_url=receiver.url)
    await post.service.test(post.house.database, post.admin, channel_id)
    assert "This is a test" in json.loads(receiver.requests[0][1])["text"]
    receiver.status = 500
    with pytest.raises(DeliveryFailed, match="The receiver answered 500"):
        await post.service.test(post.house.database, post.admin, channel_id)
    mail, _ = await post.channel("email", recipients=["ada@acme.test"])
    with pytest.raises(MailNotConfigured, match="GATEHOUSE_SMTP_URL"):
        await post.service.test(post.house.database, post.admin, mail)


async def test_what_is_left_out_of_a_change_stays_secrets_too(post: Post, receiver: Receiver) -> None:
    channel_id, _ = await post.channel("slack", webhook_url=receiver.url)
    async with post.house.database.transaction() as session:
        await post.service.update(session, post.admin, channel_id, config={"channel": "#b"})
    await post.announce()
    await post.deliver()
    assert json.loads(receiver.requests[0][1])["channel"] == "#b"
    async with post.house.database.transaction() as session:
        await post.service.update(session, post.admin, channel_id, enabled=False)
    async with post.house.database.transaction() as session:
        assert await post.service.announce(session, post.admin.org_id, await post.announce()) == 0
        row = (await session.scalars(select(NotificationChannel))).one()
        stored = f"{row.config} {row.sealed_secrets}"
    assert receiver.url not in stored


def test_addresses_of_mail_servers() -> None:
    found = parse_smtp_url("smtps://us%40er:p%2Fw@mail.acme.test?from=g@acme.test")
    assert (found.host, found.port, found.tls, found.user, found.password) == (
        "mail.acme.test",
        465,
        True,
        "us@er",
        "p/w",
    )
    assert parse_smtp_url("smtp://mail.acme.test").sender == "gatehouse@mail.acme.test"
    for wrong in ("mail.acme.test", "http://mail.acme.test", "smtp://", "smtp://a:b:c"):
        with pytest.raises(SmtpUrlInvalid):
            parse_smtp_url(wrong)
