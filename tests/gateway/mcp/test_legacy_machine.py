"""Legacy sessions and their streams under any order of events: each is its owner's, and ended ones stay ended.

A state machine opens, uses, cancels and ends sessions of two principals against a whole application, beside modern
clients and those of HTTP+SSE. Whatever it does, an answer comes in time, none is a server error, what was ended or is
another's is not found, and the streams of a session end with it and no others.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule

from tests.gateway.mcp.door import LEGACY, Door, opened
from tests.gateway.mcp.exchange import Exchange, Speaker
from tests.gateway.mcp.test_faults import outcome
from tests.support.faulty import FAULTS, Faulty, faulty, good, good_events

TOOLS = {"good": good, "good_events": good_events, "hang": FAULTS["hang"]}
ANSWER_SECONDS = 20


class LegacySessionMachine(RuleBasedStateMachine):
    sessions = Bundle("sessions")
    calls = Bundle("calls")
    streams = Bundle("streams")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.ended: set[str] = set()
        self.streams_of: dict[str, list[Exchange]] = {}
        # Apart from the id that other requests have: one id is one request while it lasts.
        self.number = 1000

    @initialize()
    def start(self) -> None:
        self.runner.run(self._start())

    async def _start(self) -> None:
        directory = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.server: Faulty = await self.stack.enter_async_context(faulty(TOOLS))
        self.door: Door = await self.stack.enter_async_context(opened(Path(directory)))
        await self.door.register("slow", self.server.url)
        self.keys = [self.door.admin, self.door.agent]

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()

    def finish(self, exchange: Exchange) -> Exchange:
        """The whole answer, which must come, and not as a server error."""

        async def wait() -> None:
            await asyncio.wait([exchange.task], timeout=ANSWER_SECONDS)

        self.runner.run(wait())
        assert exchange.task.done(), "no answer came"
        assert exchange.task.exception() is None
        assert 200 <= exchange.status < 500
        return exchange

    def ask(self, speaker: Speaker, method: str, *arguments: Any, **more: Any) -> Exchange:
        """Begin an exchange inside the loop."""

        async def begin() -> Exchange:
            return getattr(speaker, method)(*arguments, **more)

        return self.runner.run(begin())

    def speaker(self, owner: int, session: str) -> Speaker:
        return Speaker(self.door, "/mcp", self.keys[owner], session)

    @rule(target=sessions, owner=st.integers(0, 1), capabilities=st.sampled_from([{}, {"roots": {}}, {"sampling": {}}]))
    def open(self, owner: int, capabilities: dict[str, Any]) -> tuple[int, str]:
        params = {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": {"name": "m"}}
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        answer = self.finish(self.ask(Speaker(self.door, "/mcp", self.keys[owner]), "post", message))
        assert answer.status == 200
        return owner, answer.headers["mcp-session-id"]

    @rule(session=sessions, tool=st.sampled_from(["good", "good_events"]))
    def call(self, session: tuple[int, str], tool: str) -> None:
        answer = self.finish(self.ask(self.speaker(*session), "call", f"slow__{tool}"))
        if session[1] in self.ended:
            assert answer.status == 404
        else:
            assert outcome(answer) == "done"

    @rule(
        session=sessions, method=st.sampled_from(["ping", "tools/list", "prompts/list", "nonsense", "logging/setLevel"])
    )
    def ask_beside(self, session: tuple[int, str], method: str) -> None:
        answer = self.finish(self.ask(self.speaker(*session), "request", method))
        assert (answer.status == 404) is (session[1] in self.ended)

    @rule(target=calls, session=sessions)
    def begin(self, session: tuple[int, str]) -> Any:
        if session[1] in self.ended:
            return multiple()
        self.number += 1
        exchange = self.ask(self.speaker(*session), "call", "slow__hang", identifier=self.number)
        return session, self.number, exchange

    @rule(call=calls)
    def withdraw(self, call: tuple[tuple[int, str], int, Exchange]) -> None:
        session, number, exchange = call
        note = self.ask(self.speaker(*session), "notify", "notifications/cancelled", {"requestId": number})
        assert self.finish(note).status == (404 if session[1] in self.ended else 202)
        if session[1] not in self.ended:
            self.finish(exchange)
            assert b'"error"' not in exchange.body

    @rule(call=calls, stranger=sessions)
    def withdraw_anothers(self, call: tuple[tuple[int, str], int, Exchange], stranger: tuple[int, str]) -> None:
        session, number, exchange = call
        if stranger == session:
            return
        done = exchange.task.done()
        note = self.ask(self.speaker(*stranger), "notify", "notifications/cancelled", {"requestId": number})
        self.finish(note)
        assert exchange.task.done() is done

    @rule(session=sessions, method=st.sampled_from(["call", "GET", "DELETE"]))
    def use_as_a_stranger(self, session: tuple[int, str], method: str) -> None:
        owner, identifier = session
        stranger = self.speaker(1 - owner, identifier)
        begun = self.ask(stranger, "call", "slow__good") if method == "call" else self.ask(stranger, "send", method)
        assert self.finish(begun).status == 404

    @rule(
        session=sessions, answer=st.sampled_from([{"result": {}}, {"error": {"code": 1, "message": ""}}, {"error": 5}])
    )
    def answer_what_was_not_asked(self, session: tuple[int, str], answer: dict[str, Any]) -> None:
        sent = self.ask(self.speaker(*session), "post", {"jsonrpc": "2.0", "id": "gatehouse-1", **answer})
        assert self.finish(sent).status == (404 if session[1] in self.ended else 202)

    @rule(target=streams, session=sessions)
    def listen(self, session: tuple[int, str]) -> Any:
        exchange = self.ask(self.speaker(*session), "send", "GET")
        if session[1] in self.ended:
            assert self.finish(exchange).status == 404
            return multiple()
        self.runner.run(exchange.until(b"\n\n"))
        assert exchange.status == 200
        self.streams_of.setdefault(session[1], []).append(exchange)
        return exchange

    @rule(target=streams, owner=st.integers(0, 1))
    def subscribe(self, owner: int) -> Exchange:
        wanted = {"notifications": {"toolsListChanged": True}}
        exchange = self.ask(Speaker(self.door, "/mcp", self.keys[owner]), "request", "subscriptions/listen", wanted)
        self.runner.run(exchange.until(b"acknowledged"))
        return exchange

    @rule(target=streams, owner=st.integers(0, 1))
    def open_over_sse(self, owner: int) -> Exchange:
        exchange = self.ask(Speaker(self.door, "/sse", self.keys[owner]), "send", "GET")
        self.runner.run(exchange.until(b"session_id="))
        return exchange

    @rule(owner=st.integers(0, 1), tool=st.sampled_from(["good", "good_events"]))
    def call_as_modern(self, owner: int, tool: str) -> None:
        answer = self.finish(self.ask(Speaker(self.door, "/mcp", self.keys[owner]), "call", f"slow__{tool}"))
        assert outcome(answer) == "done"

    @rule(stream=streams)
    def leave(self, stream: Exchange) -> None:
        stream.go()
        self.finish(stream)

    @rule(session=sessions)
    def end(self, session: tuple[int, str]) -> None:
        answer = self.finish(self.ask(self.speaker(*session), "send", "DELETE"))
        assert answer.status == (404 if session[1] in self.ended else 204)
        self.ended.add(session[1])
        for stream in self.streams_of.pop(session[1], []):
            self.finish(stream)
        for others in self.streams_of.values():
            assert all(not stream.task.done() or stream._gone.is_set() for stream in others)


TestLegacySessions = LegacySessionMachine.TestCase
TestLegacySessions.settings = settings(
    max_examples=6, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
