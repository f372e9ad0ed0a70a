"""What each type of channel is configured with, and which of it is a secret.

Source: `sprintconnect.md`, Notification Channels (email, slack). Webhooks are signed as the Standard Webhooks
specification says; PagerDuty is its Events API v2.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from registry.core.egress import vet_url
from registry.core.errors import GatehouseError
from registry.notifications.errors import ChannelInvalid

ChannelType = Literal["email", "slack", "webhook", "pagerduty", "apprise"]
HIDDEN = "********"
SECRET_MARK = "whsec_"


def _address(url: str) -> str:
    try:
        vet_url(url)
    except GatehouseError as error:
        raise ValueError(error.message) from None
    return url


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EmailConfig(_Config):
    recipients: list[str] = Field(min_length=1, max_length=50)
    template: Literal["health_alert"] = "health_alert"

    @field_validator("recipients")
    @classmethod
    def _addresses(cls, value: list[str]) -> list[str]:
        for one in value:
            name, sign, domain = one.partition("@")
            odd = any(ord(character) < 33 or character.isspace() or character in "<>," for character in one)
            if not (name and sign and domain) or len(one) > 320 or odd:
                raise ValueError(f"{one!r} is no email address")
        return value


class SlackConfig(_Config):
    webhook_url: str = Field(max_length=2048)
    channel: str | None = Field(None, max_length=200)

    _vetted = field_validator("webhook_url")(_address)


class WebhookConfig(_Config):
    """Args: secret: `whsec_` and base64 of 24 to 64 bytes; made where none is given."""

    url: str = Field(max_length=2048)
    secret: str = Field(default_factory=lambda: SECRET_MARK + base64.b64encode(secrets.token_bytes(32)).decode())
    headers: dict[str, str] = Field(default_factory=dict[str, str], max_length=20)

    _vetted = field_validator("url")(_address)

    @field_validator("secret")
    @classmethod
    def _strong(cls, value: str) -> str:
        if not 24 <= len(key_of(value)) <= 64:
            raise ValueError("a secret is whsec_ and base64 of 24 to 64 bytes; leave it out to have one made")
        return value


class PagerDutyConfig(_Config):
    routing_key: str = Field(min_length=1, max_length=200)
    url: str = Field("https://events.pagerduty.com/v2/enqueue", max_length=2048)

    _vetted = field_validator("url")(_address)


class AppriseConfig(_Config):
    urls: list[str] = Field(min_length=1, max_length=20)


CONFIGS: dict[ChannelType, type[_Config]] = {
    "email": EmailConfig,
    "slack": SlackConfig,
    "webhook": WebhookConfig,
    "pagerduty": PagerDutyConfig,
    "apprise": AppriseConfig,
}
SECRETS: dict[ChannelType, frozenset[str]] = {
    "email": frozenset(),
    "slack": frozenset({"webhook_url"}),
    "webhook": frozenset({"secret", "headers"}),
    "pagerduty": frozenset({"routing_key"}),
    "apprise": frozenset({"urls"}),
}


def key_of(secret: str) -> bytes:
    """The bytes that a webhook is signed with; none for what is no secret."""
    if not secret.startswith(SECRET_MARK):
        return b""
    try:
        return base64.b64decode(secret.removeprefix(SECRET_MARK), validate=True)
    except (binascii.Error, ValueError):
        return b""


def read_config(kind: ChannelType, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What may be shown, and what is secret. Raises `ChannelInvalid`; no message repeats a value that is secret."""
    try:
        whole = CONFIGS[kind].model_validate(given).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["config", *map(str, first["loc"])])
        raise ChannelInvalid(f"{place}: {first['msg']}", field=place) from None
    hidden = {name: value for name, value in whole.items() if name in SECRETS[kind]}
    return {name: value for name, value in whole.items() if name not in hidden}, hidden


def shown(kind: ChannelType, config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as people see it: of a secret they see that it is there."""
    return config | dict.fromkeys(sorted(SECRETS[kind]), HIDDEN)
