"""What the data path keeps or gives away: request states, records, flights. Nothing opens for another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mcp import records, translate
from gateway.mcp.envelope import Message, ProtocolError, decode_text, encode
from gateway.mcp.flights import ClientGone, Flight, Flights
from gateway.mcp.records import Recorder
from gateway.mcp.request_state import LIFETIME_SECONDS, MARK, RequestStates
from gateway.mcp.upstream.port import Answer
from registry.core.security import Sealer
from registry.usage.calls import Call
from tests.gateway.mcp.made import call, outgoing, principal
from tests.support.clock import SettableClock

MASTER = b"m" * 32
OWNER = principal()
OTHERS = [principal(user="u2"), principal(key_id=7), principal(user="u1 "), principal(user="user:u1")]


# -- request states


def sealed(states: RequestStates, state: str = "inner", **given: Any) -> str:
    result = {"resultType": "input_required", "inputRequests": {}, "requestState": state}
    answer = Answer(body=json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}, separators=(",", ":")).encode())
    states.seal(answer, outgoing(given.get("caller", OWNER), given.get("name", "tool")), given.get("server", "s1"))
    return str(json.loads(answer.body)["result"]["requestState"])


def opened(states: RequestStates, state: Any, **given: Any) -> str:
    request = outgoing(
        given.get("caller", OWNER), given.get("name", "tool"), given.get("method", "tools/call"), requestState=state
    )
    states.open(request, given.get("server", "s1"))
    return decode_text(request.params["requestState"])


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_request_state_comes_back_as_it_was(state: str) -> None:
    states = RequestStates(Sealer(MASTER, "states"), SettableClock())
    assert opened(states, sealed(states, state)) == state


@pytest.mark.parametrize(
    "given_to",
    [
        *({"caller": other} for other in OTHERS),
        {"name": "other"},
        {"server": "s2"},
        {"method": "prompts/get"},
        {"name": "", "method": "tools/call|tool"},
    ],
)
def test_a_request_state_opens_for_its_caller_and_call_alone(given_to: dict[str, Any]) -> None:
    states = RequestStates(Sealer(MASTER, "states"), SettableClock())
    state = sealed(states)
    with pytest.raises(ProtocolError):
        opened(states, state, **given_to)
    assert opened(states, state) == "inner"


def test_an_altered_request_state_is_refused() -> None:
    states = RequestStates(Sealer(MASTER, "states"), SettableClock())
    state = sealed(states)
    for place in range(len(state)):
        for letter in "AB=":
            altered = state[:place] + letter + state[place + 1 :]
            if altered != state:
                with pytest.raises(ProtocolError):
                    opened(states, altered)
    for altered in ("", "parked:abc", state + "A", 5, None, {}, ["x"]):
        with pytest.raises(ProtocolError):
            opened(states, altered)


@pytest.mark.requirement("mrtr.state-expires")
def test_an_old_request_state_is_refused() -> None:
    clock = SettableClock()
    states = RequestStates(Sealer(MASTER, "states"), clock)
    state = sealed(states)
    clock.set(clock.now() + timedelta(seconds=LIFETIME_SECONDS + 1))
    with pytest.raises(ProtocolError, match="expired"):
        opened(states, state)


# -- translation

members = st.dictionaries(
    st.sampled_from(["content", "x", "isError", "resultType", "ttlMs", "cacheScope", "résumé", "_meta"]),
    st.sampled_from([1, "a", [], {}, {"y": None}]),
)


@given(members, st.sampled_from(["tools/call", "resources/read"]), st.integers(0, 2))
def test_a_legacy_result_keeps_its_members_and_says_nothing_twice(
    result: dict[str, Any], method: str, spaces: int
) -> None:
    raw = json.dumps(result, indent=spaces or None).encode()
    made = translate.to_modern(method, b"7")(Message("2.0", id=msgspec.Raw(b"1"), result=msgspec.Raw(raw)))
    pairs: list[list[str]] = []
    answer = json.loads(
        made, object_pairs_hook=lambda found: (pairs.append([name for name, _ in found]), dict(found))[1]
    )
    assert all(len(set(names)) == len(names) for names in pairs)
    assert answer["id"] == 7
    assert answer["result"]["resultType"] == "complete"
    own = {"resultType", "ttlMs", "cacheScope"}
    assert {k: v for k, v in answer["result"].items() if k not in own} == {
        k: v for k, v in result.items() if k not in own
    }


@given(st.dictionaries(st.sampled_from(["content", "x", "résumé"]), st.sampled_from([1, "a", [], {"y": None}])))
def test_there_and_back_is_the_same(result: dict[str, Any]) -> None:
    legacy = Message("2.0", id=msgspec.Raw(b"1"), result=msgspec.Raw(encode(result)))
    modern = translate.to_modern("resources/read", b"1")(legacy)
    message = msgspec.json.decode(modern, type=Message)
    assert json.loads(translate.to_legacy(b"1")(message))["result"] == result


@pytest.mark.parametrize("result", [b"5", b"null", b"[1,2]", b'"text"', b"true"])
def test_a_result_that_is_no_object_is_not_made_into_one(result: bytes) -> None:
    message = Message("2.0", id=msgspec.Raw(b"1"), result=msgspec.Raw(result))
    for rewrite in (translate.to_modern("tools/call", b"1"), translate.to_legacy(b"1"), Answer().judge):
        with pytest.raises(msgspec.DecodeError):
            rewrite(message)


@given(st.dictionaries(st.sampled_from(["progressToken", "x"]), st.integers()))
def test_stamps_come_off_again(meta: dict[str, int]) -> None:
    params = {"name": msgspec.Raw(b'"t"'), "_meta": msgspec.Raw(encode(meta))}
    stamped = translate.stamp(params, b'{"roots":{}}', "info")
    assert translate.stamp(stamped, b'{"roots":{}}', "info") == stamped
    back = translate.unstamp(stamped)
    assert json.loads(encode(back)) == ({"name": "t", "_meta": meta} if meta else {"name": "t"})


def test_the_mark_of_required_input_is_what_is_written() -> None:
    assert MARK in translate.input_required({}, "state")


# -- records


class Sink:
    """Keeps what it is given; fails or waits as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.batches: list[list[int]] = []
        self.failures = failures
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, batch: Sequence[Call]) -> None:
        self.entered.set()
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        self.batches.append([one.at for one in batch])

    @property
    def stored(self) -> list[int]:
        return [at for batch in self.batches for at in batch]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RETRY_SECONDS", 0.0)


async def test_records_are_written_together_within_the_time_that_was_promised() -> None:
    assert records.FLUSH_SECONDS <= 0.1
    sink = Sink()
    recorder = Recorder(sink)
    recorder.start()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(1000):
        recorder.add(call(number))
    await asyncio.wait_for(recorder.written(), 10)
    assert loop.time() - began < records.FLUSH_SECONDS + 1
    assert sink.batches == [[*range(1000)]]
    await recorder.stop()


async def test_durable_records_are_stored_before_the_answer() -> None:
    sink = Sink()
    recorder = Recorder(sink, durable=True)
    recorder.start()
    for number in range(20):
        recorder.add(call(number))
        await asyncio.wait_for(recorder.written(), 10)
        assert number in sink.stored
    await recorder.stop()


async def test_a_sink_that_fails_keeps_the_order_and_everybody_waiting_hears_in_the_end() -> None:
    sink = Sink(failures=3)
    sink.open.clear()
    recorder = Recorder(sink, durable=True)
    recorder.start()
    recorder.add(call(0))
    first = asyncio.create_task(recorder.written())
    await sink.entered.wait()
    # The first batch is on its way, and will fail: who asks now must not push the first aside.
    recorder.add(call(1))
    second = asyncio.create_task(recorder.written())
    await asyncio.sleep(0)
    sink.open.set()
    await asyncio.wait_for(asyncio.gather(first, second), 10)
    assert sink.stored == [0, 1]
    await recorder.stop()


async def test_written_waits_for_a_batch_that_is_on_its_way() -> None:
    sink = Sink()
    sink.open.clear()
    recorder = Recorder(sink, durable=True)
    recorder.start()
    recorder.add(call(0))
    await sink.entered.wait()
    waiting = asyncio.create_task(recorder.written())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    sink.open.set()
    await asyncio.wait_for(waiting, 10)
    assert sink.stored == [0]
    await recorder.stop()


async def test_stopping_writes_what_is_left_and_ends_even_if_that_fails() -> None:
    sink = Sink()
    recorder = Recorder(sink)
    recorder.start()
    recorder.add(call(0))
    await asyncio.wait_for(recorder.stop(), 10)
    assert sink.stored == [0]
    broken = Recorder(Sink(failures=1000), durable=True)
    broken.start()
    broken.add(call(0))
    waiting = asyncio.create_task(broken.written())
    await asyncio.sleep(0)
    await asyncio.wait_for(broken.stop(), 10)
    assert (await asyncio.gather(waiting, return_exceptions=True))[0] is not None, "it was taken for stored"


async def test_a_full_queue_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FULL", 3)
    sink = Sink()
    recorder = Recorder(sink)
    for number in range(3):
        assert not recorder.full
        recorder.add(call(number))
    assert recorder.full
    recorder.start()
    await asyncio.wait_for(recorder.written(), 10)
    assert not recorder.full
    await recorder.stop()


# -- flights


class Late(Exception):
    pass


async def fly(flights: Flights, receive: Any, deadline: float) -> str:
    flight = Flight(receive, "o1", deadline, Late)
    flights.take_off(flight)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        raise (flight.reason() or error) from None
    finally:
        flights.land(flight)
    return "never"


async def test_a_flight_ends_at_its_deadline_and_with_its_client() -> None:
    gone = asyncio.Event()

    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    flights = Flights()
    flights.start()
    now = asyncio.get_running_loop().time()
    late = asyncio.create_task(fly(flights, None, now))
    left = asyncio.create_task(fly(flights, receive, now + 1000))
    with pytest.raises(Late):
        await asyncio.wait_for(late, 10)
    assert not left.done()
    gone.set()
    with pytest.raises(ClientGone):
        await asyncio.wait_for(left, 10)
    assert len(flights) == 0
    await flights.stop()


async def test_a_task_that_was_ended_can_go_on() -> None:
    """Whoever turns an end into an answer must be able to await afterwards."""
    flights = Flights()
    flights.start()

    async def answer() -> str:
        with pytest.raises(Late):
            await fly(flights, None, 0)
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return "answered"

    assert await asyncio.wait_for(asyncio.create_task(answer()), 10) == "answered"
    await flights.stop()
