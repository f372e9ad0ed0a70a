"""Docker's API where it streams: events, logs, commands whose standard streams are carried. On asyncio, no threads.

The SDK serves the short calls (`docker`), but holds a thread for each stream and cannot let go of one. Here every
stream is a connection of its own, ended by closing it. The engine's address is the operator's setting.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from workspace_runtime.runtime import ContainerMissing, EngineUnavailable, NotRunning, Output, SpecRefused

DEFAULT = "unix:///var/run/docker.sock"
CONNECT_SECONDS = 10.0
HEAD_SECONDS = 60.0
"""An engine that starts twenty containers at once lets others wait."""
_API = "/v1.41"
_HEAD_BYTES = 64 * 1024
_STREAMS = {0: "stdout", 1: "stdout", 2: "stderr"}


@dataclass(frozen=True)
class Address:
    """Where the engine is.

    Args:
        url: as in DOCKER_HOST: `unix://` or `tcp://`.
        certificates: the folder with `ca.pem`, `cert.pem` and `key.pem` for TLS; `None` for a plain connection.
    """

    url: str
    certificates: str | None = None

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Address:
        """By the variables that Docker's own client reads."""
        url = env.get("DOCKER_HOST") or DEFAULT
        tls = bool(env.get("DOCKER_TLS_VERIFY"))
        return cls(url, env.get("DOCKER_CERT_PATH", os.path.expanduser("~/.docker")) if tls else None)  # noqa: PTH111

    def context(self) -> ssl.SSLContext | None:
        if self.certificates is None:
            return None
        folder = Path(self.certificates)
        made = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        made.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        return made

    def check(self) -> None:
        """See whether a socket is answered, before the SDK tries: it leaves its own open where it is not.

        Raises:
            OSError: nobody listens.
        """
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(CONNECT_SECONDS)
                line.connect(parts.path)

    async def connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Open a connection for a protocol that exists already.

        Raises:
            EngineUnavailable
        """
        loop = asyncio.get_running_loop()
        parts = urlsplit(self.url)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if parts.scheme == "unix":
                    made, _ = await loop.create_unix_connection(lambda: protocol, parts.path)
                elif parts.scheme in {"tcp", "http", "https"}:
                    port = parts.port or (2376 if self.certificates else 2375)
                    made, _ = await loop.create_connection(
                        lambda: protocol, parts.hostname or "127.0.0.1", port, ssl=self.context()
                    )
                else:
                    raise EngineUnavailable(
                        f"an engine at {self.url} cannot be reached: unix:// and tcp:// are supported"
                    )
        except TimeoutError:
            raise EngineUnavailable(f"no engine answers at {self.url} within {CONNECT_SECONDS:.0f} s") from None
        except OSError as error:
            raise EngineUnavailable(f"no engine answers at {self.url}: {error.strerror or error}") from error
        return made


class _Head(asyncio.Protocol):
    """Reads a response's head; what comes after it waits for whoever takes the connection over."""

    def __init__(self) -> None:
        self.done: asyncio.Future[tuple[int, dict[str, str]]] = asyncio.get_running_loop().create_future()
        self.rest = b""
        self.ended = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.rest += data
        if self.done.done():
            return
        head, blank, rest = self.rest.partition(b"\r\n\r\n")
        if not blank and len(head) < _HEAD_BYTES:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[1].isdigit():
            self.done.set_exception(EngineUnavailable("the engine does not speak HTTP"))
            return
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        self.rest = rest
        assert self._transport
        self._transport.pause_reading()
        self.done.set_result((int(words[1]), headers))

    def eof_received(self) -> bool:
        self.ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        if not self.done.done():
            self.done.set_exception(EngineUnavailable("the engine has closed the connection"))

    def hand_over(self, to: asyncio.Protocol) -> None:
        """Let another protocol have the connection, and what has come on it already."""
        assert self._transport
        to.connection_made(self._transport)
        self._transport.set_protocol(to)
        if self.rest:
            to.data_received(self.rest)
        if self.ended and not to.eof_received():
            self._transport.close()
        with contextlib.suppress(RuntimeError):
            self._transport.resume_reading()


class Frames(asyncio.Protocol):
    """Takes the two output streams of a command apart, which the engine sends in frames on one connection.

    Args:
        out: a protocol that sees the standard output as if it were the connection; its writes are the standard input.
        said: is given all pieces otherwise, and `None` at the end.
        writable: cleared while what was written waits for the command to read.
    """

    def __init__(
        self,
        out: asyncio.Protocol | None,
        said: Callable[[Output | None], None] | None = None,
        writable: asyncio.Event | None = None,
    ) -> None:
        self._out = out
        self._said = said
        self._writable = writable
        self._buffer = bytearray()
        self._left = 0
        self._stream = "stdout"
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._out is not None:
            self._out.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            if not self._left:
                if len(self._buffer) < 8:
                    return
                self._stream = _STREAMS.get(self._buffer[0], "stdout")
                self._left = int.from_bytes(self._buffer[4:8])
                del self._buffer[:8]
                continue
            piece = bytes(self._buffer[: self._left])
            del self._buffer[: self._left]
            self._left -= len(piece)
            if self._out is not None and self._stream == "stdout":
                self._out.data_received(piece)
            elif self._said is not None:
                self._said(Output(self._stream, piece))

    def eof_received(self) -> bool | None:
        self._end()
        return self._out.eof_received() if self._out is not None else False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        if self._out is not None:
            self._out.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._writable is not None:
            self._writable.clear()
        if self._out is not None:
            self._out.pause_writing()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
        if self._out is not None:
            self._out.resume_writing()

    def _end(self) -> None:
        if self._writable is not None:
            self._writable.set()
        if not self._ended and self._said is not None:
            self._said(None)
        self._ended = True


class EngineLine:
    """Requests whose answers stream, each on its own connection."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        """A short request.

        Raises:
            EngineUnavailable, ContainerMissing, NotRunning, SpecRefused
        """
        reader, writer = await self._open(method, path, body)
        try:
            data = await reader.read()
        finally:
            writer.close()
        return json.loads(data) if data.strip() else None

    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """What streams in lines, until the engine ends it or the iterator is closed.

        Raises:
            EngineUnavailable: also where it breaks off.
        """
        reader, writer = await self._open("GET", f"{path}?{urlencode(query)}")
        try:
            while line := await reader.readline():
                yield line
        finally:
            writer.close()

    async def frames(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Output]:
        """What streams in frames, as logs do."""
        reader, writer = await self._open("GET", f"{path}?{urlencode(query)}")
        said: list[Output] = []
        parser = Frames(None, lambda output: said.append(output) if output else None)
        try:
            while data := await reader.read(65536):
                parser.data_received(data)
                for output in said:
                    yield output
                said.clear()
        finally:
            writer.close()

    async def attach(self, container: str, exec_id: str, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Start a command that was made, with its streams carried to a protocol (a `Frames`)."""
        transport, head = await self._ask(
            "POST", f"/exec/{exec_id}/start", {"Detach": False, "Tty": False}, ("Upgrade: tcp", "Connection: Upgrade")
        )
        status, _ = await head.done
        if status not in {101, 200}:
            transport.close()
            raise _refused(status, head.rest.decode("utf-8", "replace"), container)
        head.hand_over(protocol)
        return transport

    async def _open(
        self, method: str, path: str, body: Any = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Reader of a response's body, which must be fine, and the writer to close."""
        loop = asyncio.get_running_loop()
        transport, head = await self._ask(method, path, body, ("Connection: close",))
        status, headers = await head.done
        reader = asyncio.StreamReader(limit=1024 * 1024)
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        final = asyncio.StreamReaderProtocol(reader, loop=loop)
        head.hand_over(_Chunks(final) if chunked else final)
        writer = asyncio.StreamWriter(transport, final, reader, loop)
        if status >= 300:
            words = (await reader.read(65536)).decode("utf-8", "replace")
            writer.close()
            raise _refused(status, words, path)
        return reader, writer

    async def _ask(self, method: str, path: str, body: Any, extra: tuple[str, ...]) -> tuple[asyncio.Transport, _Head]:
        head = _Head()
        transport = await self._address.connect(head)
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {_API}{path} HTTP/1.1", "Host: engine", f"Content-Length: {len(data)}", *extra]
        lines += ["Content-Type: application/json"] if data else []
        transport.write("\r\n".join([*lines, "", ""]).encode() + data)
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                await asyncio.shield(head.done)
        except TimeoutError:
            transport.abort()
            raise EngineUnavailable(f"the engine has not answered within {HEAD_SECONDS:.0f} s") from None
        except BaseException:
            transport.abort()
            raise
        return transport, head


class _Chunks(asyncio.Protocol):
    """Takes HTTP's chunks apart for a protocol that wants the body."""

    def __init__(self, body: asyncio.StreamReaderProtocol) -> None:
        self._body = body
        self._buffer = bytearray()
        self._left = 0
        self._transport: asyncio.BaseTransport | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._body.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer and not self._ended:
            if not self._left:
                line, end, _ = bytes(self._buffer).partition(b"\r\n")
                if not end:
                    return
                del self._buffer[: len(line) + 2]
                size = int(line.split(b";")[0] or b"0", 16)
                self._left = size + 2
                if not size:
                    self._ended = True
                    self._body.eof_received()
                continue
            piece = bytes(self._buffer[: self._left])
            del self._buffer[: self._left]
            body = piece[: max(0, self._left - 2)]
            self._left -= len(piece)
            if body:
                self._body.data_received(body)

    def eof_received(self) -> bool | None:
        return self._body.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._body.connection_lost(exc)

    def pause_writing(self) -> None:
        self._body.pause_writing()

    def resume_writing(self) -> None:
        self._body.resume_writing()


def _refused(status: int, words: str, what: str) -> Exception:
    """The engine's complaint, typed."""
    with contextlib.suppress(ValueError, AttributeError):
        words = json.loads(words)["message"]
    if status == 404:
        return ContainerMissing(f"the engine has no such container: {words or what}")
    if status == 409:
        return NotRunning(f"the container does not run: {words}")
    if status < 500:
        return SpecRefused(f"the engine refuses: {words}")
    if "is not running" in words or "cannot exec" in words.lower():
        return NotRunning(f"the container does not run: {words}")
    return EngineUnavailable(f"the engine failed: {words}")
