"""All settings of the gateway: one typed class, read from `GATEHOUSE_*` variables and a `gatehouse.toml`.

The contract is the table in DESIGN §3. Names that nobody knows, default secrets and short keys are refused at start,
with a sentence that says what to change. Settings of the command line's client side are listed in `CLIENT_NAMES`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from registry.core.errors import GatehouseError

PREFIX = "GATEHOUSE_"
CLIENT_NAMES = frozenset({"GATEHOUSE_URL", "GATEHOUSE_API_KEY", "GATEHOUSE_CONFIG"})
"""Read by the command line when it talks to a running gateway (and the path of the TOML file), not settings."""

MIN_KEY_BYTES = 32
DEFAULT_SECRETS = ("changeme", "change-me", "change_me", "secret", "default", "password", "example", "insecure", "xxxx")

Names = Annotated[tuple[str, ...], NoDecode]
"""A list given as comma-separated text."""


class SettingsInvalid(GatehouseError):
    code = "SETTINGS_INVALID"
    title = "Settings invalid"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    data_dir: Path = Path("~/.gatehouse")
    """Where the database, secrets and `first-run.txt` are kept."""

    secret_key: SecretStr | None = None
    """32 bytes or more, shared by replicas; all other secrets are derived from it. Unset: made at first run."""

    database_url: str | None = None
    """`postgresql+asyncpg://…`; unset: SQLite in the data dir."""
    redis_url: str | None = None
    """What several processes share is kept there where it can be: sessions and the rate of calls."""

    public_url: str | None = None
    """The address clients use, when it is not the listening one."""
    trusted_proxies: Names = ()
    """Addresses or networks whose `X-Forwarded-*` headers are believed."""
    allowed_hosts: Names = ()
    """Further values of `Host` that are answered, beside the listening and the public address."""
    egress_allow: Names | None = None
    """`CIDR[:port]` entries that may be private. Unset: private upstreams in local mode only."""

    admin_email: str | None = None
    admin_password: SecretStr | None = None
    admin_api_key: SecretStr | None = None

    stdio_api: Literal["on", "off"] = "off"
    """`on`: registering a stdio command needs no proof of access to the machine."""
    stdio_user: str = "nobody"
    """Who stdio servers run as where the gateway is root; `same`: as the gateway itself."""
    audit: Literal["batched", "durable"] = "batched"
    """`durable`: a call is answered only after its record has been committed."""
    rate_limits: Literal["on", "off"] = "on"
    """`off`: neither the façade's rate limits nor `public_calls_per_minute` apply."""
    public_calls_per_minute: int = Field(default=600, ge=1)
    """Requests that one client address may send to public servers and sets, without a credential."""

    calls_per_minute: int = Field(default=0, ge=0)
    """Calls of one key or user over MCP and its other doors; 0: no limit."""
    call_limits: Names = ()
    """`NAME=CALLS` entries: calls a minute in one organisation, by a server's slug or a tool's name."""

    concurrent_calls: int = Field(default=2000, ge=0)
    """Calls under way at any one server; further ones wait. 0: no limit."""
    concurrency_limits: Names = ()
    """`SLUG=CALLS` entries: another number at the server of that slug."""

    max_argument_bytes: int = Field(default=1024 * 1024, ge=0)
    """Largest arguments of a call, as JSON; 0: no cap of their own."""
    max_result_bytes: int = Field(default=16 * 1024 * 1024, ge=0)
    """Largest result of a tool, as JSON; of a larger one the beginning is kept. 0: no cap."""
    size_limits: Names = ()
    """`NAME=ARGUMENT_BYTES/RESULT_BYTES` entries: other caps, by a server's slug or a tool's name."""

    smtp_url: SecretStr | None = None
    """The mail server of notifications: `smtp://user:password@host:587?from=gatehouse@example.com`, or `smtps://`."""
    workspace_runtime: Literal["docker", "process", "off"] = "docker"
    """What runs workspaces. `process` isolates nothing: it is for development, on one's own machine."""
    workspace_engine_runtime: str | None = None
    """One that the engine knows, such as `runsc`; unset: the engine's own choice."""
    workspace_image: str | None = None
    """Tag of the image that workspaces are made of; unset: this version's own, built at first use."""
    workspace_base_image: str = "python:3.11-slim-bookworm"
    """What that image is built on: Debian or a relative of it."""
    workspace_images: Names = ()
    """Further images that may be asked for."""
    workspace_network: Literal["none", "open"] = "none"
    """What a workspace reaches whose creator does not say."""
    workspaces_per_user: int = Field(default=20, ge=0)
    """Workspaces that one user may have."""
    workspace_idle_seconds: int = Field(default=1800, ge=0)
    """After so long without a call a workspace sleeps until the next; 0: never."""
    workspace_memory_mb: int = Field(default=1024, ge=64)
    workspace_cpus: float = Field(default=1.0, gt=0)
    workspace_pids: int = Field(default=256, ge=16)
    """Processes and threads together."""
    workspace_disk_mb: int = Field(default=2048, ge=16)

    metrics: Literal["loopback", "key", "off"] = "loopback"
    """Who may read `/metrics`: this machine without a key and others with one, or nobody without, or nobody."""
    traces: Literal["on", "off"] = "off"
    """`on`: calls are sent as OpenTelemetry spans, as the `OTEL_…` variables say."""
    call_log: Literal["all", "failures", "off"] = "failures"
    """Which calls have a line in the logs."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "json"

    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Largest request body that is read, on every path."""
    access_token_minutes: int = Field(default=60, ge=1, le=24 * 60)
    """Life of a JWT access token."""
    login_idle_minutes: int = Field(default=12 * 60, ge=5)
    """A person's login session ends after so long without a request,"""
    login_days: int = Field(default=30, ge=1)
    """and after so long in any case."""
    introspect_secret: SecretStr | None = None
    """Who sends it as `X-Introspect-Secret` may introspect every token."""

    oidc_issuer: str | None = None
    """The OIDC provider that people may sign in by, exactly as it names itself."""
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_scopes: str = "openid email profile"
    oidc_org_claim: str | None = None
    """The claim with the slug of a new person's organisation. Unset: everybody belongs to the oldest one."""
    oidc_role_claim: str | None = None
    """The claim with names that `oidc_roles` gives a meaning. Unset: roles are given here."""
    oidc_roles: Names = ()
    """`NAME=ROLE` entries; the greatest role counts."""
    oidc_default_role: Literal["admin", "manager", "user", "viewer", "agent"] = "user"
    """Of people whose claim has none of the names."""
    oidc_provision: Literal["on", "off"] = "on"
    """`off`: only people who have been added here are let in."""
    jwt_issuers: Names = ()
    """`ISSUER|AUDIENCE` or `ISSUER|AUDIENCE|JWKS_URL` entries: whose access tokens for which audience are believed."""

    max_streams_per_caller: int = Field(default=2000, ge=0)
    """Streams for notices that one key or user may have open in a process; 0: no limit."""
    session_idle_seconds: int = Field(default=24 * 3600, ge=60)
    """After so long without a request a client of the older revisions must initialize again."""
    catalog_ttl_seconds: int = Field(default=300, ge=1)
    """How long a client may keep a list, and how often a server's offer is read again."""
    busy_poll_microseconds: int = Field(default=300, ge=0, le=10_000)
    """For so long after a connection that is busy alone was heard or answered, the process looks on for more."""

    @field_validator(
        "trusted_proxies",
        "allowed_hosts",
        "egress_allow",
        "call_limits",
        "size_limits",
        "concurrency_limits",
        "workspace_images",
        "oidc_roles",
        "jwt_issuers",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("secret_key")
    @classmethod
    def _strong(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_secret("GATEHOUSE_SECRET_KEY", value.get_secret_value())
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get("GATEHOUSE_CONFIG", "gatehouse.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir / 'gatehouse.db'}"


def check_secret(name: str, value: str) -> None:
    """Refuse a key that is short or looks like a default. Raises `ValueError` naming the setting, never the value."""
    if len(value.encode()) < MIN_KEY_BYTES:
        raise ValueError(f"{name} is too short: {MIN_KEY_BYTES} bytes or more are needed")
    lowered = value.lower()
    if len(set(value)) < 8 or any(lowered.startswith(word) or lowered.endswith(word) for word in DEFAULT_SECRETS):
        raise ValueError(f"{name} looks like a default or a placeholder: use random bytes")


def unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | CLIENT_NAMES
    return sorted(name for name in environ if name.upper().startswith(PREFIX) and name not in known)


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment and the TOML file; `overrides` (command-line options) win, `None` is ignored.

    Raises:
        SettingsInvalid: an unknown name, a bad value, or a secret that must not be used.
    """
    if unknown := unknown_names(os.environ):
        raise SettingsInvalid(f"Unknown setting {', '.join(unknown)}: check the spelling against the README.")
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        # Values are left out on purpose: they may be secrets.
        problems = [f"{PREFIX}{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise SettingsInvalid("Settings invalid. " + "; ".join(problems)) from None
