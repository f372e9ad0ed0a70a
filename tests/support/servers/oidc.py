"""A real OIDC provider (npm `oidc-provider`) as a child process, and a person who goes through its pages."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from typing import Self
from urllib.parse import urljoin

import aiohttp

from tests.support.components.machine import free_port
from tests.support.components.node import NpmPackage
from tests.support.servers.process import Child, listening, plain_environment

CLIENT_ID = "gatehouse"
CLIENT_SECRET = "a secret of the tests alone"
_PROGRAM = Path(__file__).with_name("oidc_provider.mjs")


class OidcProvider:
    """Args:
    package: the installed `oidc-provider`.
    callback: the one redirect address that it knows.
    logged_out: where it sends people after their logout.
    """

    def __init__(self, package: NpmPackage, directory: Path, *, callback: str, logged_out: str) -> None:
        directory.mkdir(exist_ok=True)
        # A module finds its packages in the folders above it.
        program = directory / _PROGRAM.name
        shutil.copy(_PROGRAM, program)
        modules = directory / "node_modules"
        if not modules.exists():
            modules.symlink_to(package.directory.parent)
        self._argv = [str(package.node.program), str(program)]
        self._directory = directory
        self._environment = {"REDIRECT_URI": callback, "LOGGED_OUT_URI": logged_out}
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._child = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop()

    def restart(self) -> None:
        """Begin anew, with other keys and nobody signed in."""
        self._child.stop()
        self._child = self._start()

    def _start(self) -> Child:
        env = plain_environment(self._directory, PORT=str(self.port), **self._environment)
        child = Child("the OIDC provider", self._argv, log=self._directory / "oidc.log", env=env)
        return child.wait_until(lambda: listening(self.port))


async def go_through(http: aiohttp.ClientSession, url: str, name: str, base: str) -> str:
    """Sign in as `name` from `url` on; gives the address at `base` that the provider sends the browser to."""
    method, fields = "GET", None
    for _ in range(12):
        async with http.request(method, url, data=fields, allow_redirects=False) as answer:
            text, location = await answer.text(), answer.headers.get("Location")
            assert answer.status < 400, text
        if location is not None:
            url, method, fields = urljoin(url, location), "GET", None
            if url.startswith(base):
                return url
            continue
        action = re.search(r'<form[^>]*action="([^"]+)"', text)
        assert action, text
        url, method = urljoin(url, html.unescape(action[1])), "POST"
        fields = {found[1]: html.unescape(found[2]) for found in re.finditer(r'name="(\w+)" value="([^"]*)"', text)}
        if fields.get("prompt") == "login":
            fields |= {"login": name, "password": "any"}
        if "xsrf" in fields:
            fields["logout"] = "yes"
    raise AssertionError("the provider's pages have no end")
