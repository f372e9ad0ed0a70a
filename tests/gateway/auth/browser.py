"""A person's browser: keeps cookies, fills in forms, says which page asks, and stops before it leaves the gateway."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp


@dataclass(frozen=True)
class Page:
    """Where the browser ended up.

    Args:
        url: the page's, or the foreign address that it was sent to.
    """

    url: str
    status: int
    text: str
    headers: dict[str, str]

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.url).query).items()}

    def field(self, name: str) -> str:
        """The value of a hidden field."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.text)
        assert found, self.text
        return html.unescape(found[1])


class Browser:
    """Args:
    http: with a cookie jar of its own.
    base: the gateway's address.
    """

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self.http = http
        self.base = base

    async def open(self, path: str) -> Page:
        return await self._follow("GET", urljoin(self.base, path), None, {})

    async def submit(self, path: str, fields: dict[str, str], *, site: str = "same-origin") -> Page:
        """Send a form, as a page of `site` would."""
        return await self._follow("POST", urljoin(self.base, path), fields, {"Sec-Fetch-Site": site})

    async def sign_in(self, email: str, password: str, following: str = "/docs") -> Page:
        return await self.submit("/login", {"email": email, "password": password, "next": following})

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self.http.cookie_jar}

    async def _follow(self, method: str, url: str, fields: dict[str, str] | None, headers: dict[str, str]) -> Page:
        for _ in range(10):
            async with self.http.request(method, url, data=fields, headers=headers, allow_redirects=False) as answer:
                text = await answer.text()
                location = answer.headers.get("Location")
                if location is None:
                    return Page(url, answer.status, text, dict(answer.headers))
                url = urljoin(url, location)
                if not url.startswith(self.base):
                    return Page(url, answer.status, text, dict(answer.headers))
                method, fields = "GET", None
        raise AssertionError("the gateway redirects without an end")


@asynccontextmanager
async def browser(base: str) -> AsyncIterator[Browser]:
    # Browsers keep cookies of addresses without a name; aiohttp has to be told to.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield Browser(http, base)


def admin_of(data_dir: Path) -> tuple[str, str]:
    """Email and password of the first-run admin."""
    lines = (data_dir / "first-run.txt").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return values["admin_email"], values["admin_password"]
