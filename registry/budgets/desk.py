"""The desk: decides in memory, out of allotments taken from the ledger, whether a call is within all its limits.

A call that fits into what this process holds costs no wait. One that does not waits for an allotment, together with
all others that do. Once every `TICK_SECONDS` what was spent is settled, what lies idle is returned, the lease is
renewed and changes that other processes made to limits are read. Nothing here is SQL; that is the ledger's and the
source's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

import structlog

from registry.budgets.errors import BudgetExceeded, LeaseLost
from registry.budgets.ledger import Booking, Grant, Ledger
from registry.budgets.units import SCALE, Unit
from registry.budgets.windows import Period, Window, window_at
from registry.core.clock import Clock
from registry.core.errors import Unavailable

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.4
"""An allotment that was not used between two ticks is returned: within a second, the settlement included."""
RELOAD_SECONDS = 1.0
REREAD_SECONDS = 30.0
"""Limits are read again after so long even if none changed, for the organisations' time zones."""
REFUSED_SECONDS = 0.2
"""A refusal holds so long without asking the ledger again."""
BUSY_SECONDS = 0.5
"""Two allotments within so long: the next may be twice as large."""
MOST_AHEAD = 1 << 16
"""Calls for which an allotment is taken ahead, at most."""
MATCHES = 20_000

_USD = SCALE["usd"]


@dataclass(frozen=True, slots=True)
class Terms:
    """A limit, as far as calls are concerned.

    Args:
        scope_key: what `registry.budgets.scopes` makes.
        members: ids of the users that a team's limit is for.
    """

    id: str
    org_id: str
    name: str
    scope_key: str
    unit: Unit
    period: Period
    zone: ZoneInfo
    paused: bool
    members: frozenset[str] = frozenset()


class TermsSource(Protocol):
    async def signature(self) -> object:
        """A value that differs whenever any limit differs."""
        ...

    async def load(self) -> Sequence[Terms]:
        """All limits in force, of all organisations."""
        ...


class _Account:
    """What this process holds of one limit in one window. Amounts are in the unit's smallest parts."""

    __slots__ = (
        "ahead",
        "free",
        "in_flight",
        "largest",
        "limit",
        "low",
        "overrun",
        "period_id",
        "refilled_at",
        "refilling",
        "refused_at",
        "refused_cost",
        "spent",
        "until",
        "used",
        "waiting",
        "window",
    )

    def __init__(self, limit: _Limit, window: Window) -> None:
        self.limit = limit
        self.window = window
        self.until = window.ends_at.timestamp()
        self.period_id: str | None = None
        self.free = 0
        self.in_flight = 0
        self.spent = 0
        self.overrun = 0
        self.used = False
        self.ahead = 0
        """What the next allotment may hold for calls to come."""
        self.largest = 1
        self.low = 0
        """With less than this free, the next allotment is taken before anybody has to wait for it."""
        self.waiting: deque[tuple[int, asyncio.Future[bool]]] = deque()
        self.refilling: asyncio.Task[None] | None = None
        self.refilled_at = float("-inf")
        self.refused_at = float("-inf")
        self.refused_cost = 0

    @property
    def quiet(self) -> bool:
        return not (self.free or self.in_flight or self.spent or self.overrun or self.waiting or self.refilling)


class _Limit:
    __slots__ = ("account", "terms", "unit")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.unit: Unit = terms.unit
        self.account: _Account | None = None


Held = list[tuple[_Account, int]]
"""What a call has reserved: an amount of each limit that it is subject to."""


class Desk:
    """Reserves for calls, and settles. The public methods without `async` are the fast path.

    Args:
        source: where limits come from.
    """

    def __init__(self, ledger: Ledger, source: TermsSource, clock: Clock) -> None:
        self._ledger = ledger
        self._source = source
        self._clock = clock
        self._now: Callable[[], datetime] = clock.now
        self._timestamp: Callable[[], float] = clock.timestamp
        self._limits: dict[str, _Limit] = {}
        self._by_scope: dict[str, list[_Limit]] = {}
        self._teams: dict[str, list[str]] = {}
        """Scopes of teams that have limits, by the users in them."""
        self._matches: dict[tuple[str, str | None, int | None, str, str | None], tuple[_Limit, ...]] = {}
        self._accounts: set[_Account] = set()
        self._signature: object = None
        self._read_at = float("-inf")
        self._polled_at = float("-inf")
        self._changed = False
        self._failing: set[str] = set()
        """What failed the last time that it was tried, by its complaint."""
        self._reloading = asyncio.Lock()
        self._booking = asyncio.Lock()
        self._unbooked: list[Booking] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None

    # -- the fast path

    def reserve(
        self, org_id: str, user_id: str | None, key_id: int | None, server_id: str, tool: str | None,
        usd: float, tokens: int,
    ) -> Held | None:  # fmt: skip
        """Reserve for one call out of what this process holds; `None` if it has to wait, by `reserve_later`.

        Args:
            tool: the server's own name of it; `None` for what is no tool.

        Raises:
            BudgetExceeded: a limit refuses.
        """
        if not self._limits:
            return []
        subject = (org_id, user_id, key_id, server_id, tool)
        limits = self._matches.get(subject)
        if limits is None:
            limits = self._match(subject)
        held: Held = []
        if not limits:
            return held
        now = self._timestamp()
        for limit in limits:
            account = limit.account
            unit = limit.unit
            cost = 1 if unit == "calls" else _cost(unit, usd, tokens)
            if account is None or now >= account.until or limit.terms.paused:
                self.release(held)
                self._check(limit, cost)
                return None
            if cost == 0:
                continue
            free = account.free - cost
            if free < 0:
                self.release(held)
                self._check(limit, cost)
                return None
            account.free = free
            account.in_flight += cost
            account.used = True
            held.append((account, cost))
            if free < account.low and account.refilling is None:
                self._refill(account)
        return held

    def settle(self, held: Held, usd: float, tokens: int) -> None:
        """Book what a call has cost. It may differ from what was reserved, which is booked as well or free again."""
        for account, reserved in held:
            unit = account.limit.unit
            cost = 1 if unit == "calls" else _cost(unit, usd, tokens)
            account.in_flight -= reserved
            if cost == reserved:
                account.spent += cost
                continue
            from_free = min(cost - reserved, account.free) if cost > reserved else cost - reserved
            account.free -= from_free
            account.spent += reserved + from_free
            account.overrun += cost - reserved - from_free

    def release(self, held: Held) -> None:
        """Give back what a call has reserved and not used."""
        for account, reserved in held:
            account.in_flight -= reserved
            account.free += reserved

    # -- waiting

    async def reserve_later(
        self, org_id: str, user_id: str | None, key_id: int | None, server_id: str, tool: str | None,
        usd: float, tokens: int,
    ) -> Held:  # fmt: skip
        """Reserve for one call, waiting for allotments where this process holds too little.

        Raises:
            BudgetExceeded: a limit refuses.
            Unavailable: the ledger cannot be reached.
        """
        held: Held = []
        try:
            for limit in self._match((org_id, user_id, key_id, server_id, tool)):
                cost = _cost(limit.unit, usd, tokens)
                account = None
                # One that is removed meanwhile holds nothing.
                while account is None and limit.terms.id in self._limits:
                    account = await self._acquire(limit, cost)
                if account is not None and cost:
                    held.append((account, cost))
        except BaseException:
            self.release(held)
            raise
        return held

    async def spend_minutes(self, org_id: str, user_id: str, server_id: str, minutes: float) -> None:
        """Book minutes for which something ran: of all limits in minutes that it is subject to, or of none.

        Raises:
            BudgetExceeded, Unavailable: as `reserve_later`.
        """
        cost = round(minutes * SCALE["minutes"])
        held: Held = []
        try:
            for limit in self._match((org_id, user_id, None, server_id, None)):
                account = None
                while account is None and limit.unit == "minutes" and limit.terms.id in self._limits:
                    account = await self._acquire(limit, cost)
                if account is not None:
                    held.append((account, cost))
        except BaseException:
            self.release(held)
            raise
        for account, reserved in held:
            account.in_flight -= reserved
            account.spent += reserved

    def _check(self, limit: _Limit, cost: int) -> _Account:
        """The limit's account of now. Raises `BudgetExceeded` if it is known without the ledger to refuse."""
        account = self._account(limit)
        if limit.terms.paused:
            raise self._refusal(account, paused=True)
        recent = self._clock.monotonic() < account.refused_at + REFUSED_SECONDS
        if recent and 0 < account.refused_cost <= cost and account.free < cost:
            raise self._refusal(account, paused=False)
        return account

    def _account(self, limit: _Limit) -> _Account:
        account = limit.account
        now = self._now()
        if account is None or now >= account.window.ends_at:
            account = limit.account = _Account(limit, window_at(limit.terms.period, now, limit.terms.zone))
            self._accounts.add(account)
        return account

    def _refusal(self, account: _Account, *, paused: bool) -> BudgetExceeded:
        terms = account.limit.terms
        return BudgetExceeded(terms.name, terms.id, account.window.ends_at, paused=paused)

    async def _acquire(self, limit: _Limit, cost: int) -> _Account | None:
        """The account from which `cost` has been reserved; `None` to ask again, in a new window or lease."""
        account = self._check(limit, cost)
        if cost > account.free:
            granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            account.waiting.append((cost, granted))
            if account.refilling is None:
                self._refill(account)
            try:
                return account if await granted else None
            except asyncio.CancelledError:
                if granted.done() and not granted.cancelled() and not granted.exception() and granted.result():
                    self.release([(account, cost)])
                raise
        account.free -= cost
        account.in_flight += cost
        account.used = True
        return account

    def _refill(self, account: _Account) -> None:
        account.refilling = asyncio.create_task(self._serve(account))
        self._tasks.add(account.refilling)
        account.refilling.add_done_callback(self._tasks.discard)

    async def _serve(self, account: _Account) -> None:
        """Take allotments until nobody waits for one."""
        try:
            while True:
                account.waiting = deque(entry for entry in account.waiting if not entry[1].done())
                served = tuple(account.waiting)
                demands = [cost for cost, _ in served]
                self._look_ahead(account, demands)
                lease = self._ledger.holder_id
                try:
                    grant = await self._ledger.take(
                        account.limit.terms.id, account.window, demands, account.ahead, account.largest
                    )
                except LeaseLost:
                    self._lose(lease)
                    return
                self._share_out(account, grant, served)
                if not account.waiting:
                    return
        except Exception:
            # Whatever it is, those who wait must be told, and nothing passes unpaid.
            log.exception("the budget ledger could not be reached", limit=account.limit.terms.name)
            self._let_go(account, Unavailable("The budget ledger cannot be reached: nothing was sent, try again."))
        finally:
            account.refilling = None
            if account not in self._accounts:
                self._let_go(account, None)

    def _look_ahead(self, account: _Account, demands: Sequence[int]) -> None:
        """How much more to take than calls are waiting for: the faster allotments are used up, the more."""
        now = self._clock.monotonic()
        busy = now < account.refilled_at + BUSY_SECONDS
        account.refilled_at = now
        account.largest = max(demands, default=account.largest)
        wanted = max(2 * account.ahead, sum(demands)) if busy else account.ahead // 2
        account.ahead = min(wanted, MOST_AHEAD * account.largest)

    def _share_out(self, account: _Account, grant: Grant, served: Sequence[tuple[int, asyncio.Future[bool]]]) -> None:
        """Give a grant to those that were waiting when it was asked for."""
        account.period_id = grant.period_id
        account.free += grant.amount
        account.low = grant.extra // 4
        for _ in range(len(served)):
            account.waiting.popleft()
        for cost, granted in served:
            if granted.done():
                continue
            if account.free >= cost:
                account.free -= cost
                account.in_flight += cost
                account.used = True
                granted.set_result(True)
            elif grant.period_id is None:
                self._limits.pop(account.limit.terms.id, None)
                self.changed()
                granted.set_result(False)
            else:
                account.refused_at, account.refused_cost = self._clock.monotonic(), cost
                granted.set_exception(self._refusal(account, paused=grant.refusal == "paused"))

    def _let_go(self, account: _Account, failure: Exception | None) -> None:
        """Send everybody away who waits: with a failure, or to ask again."""
        while account.waiting:
            _, granted = account.waiting.popleft()
            if granted.done():
                continue
            if failure is None:
                granted.set_result(False)
            else:
                granted.set_exception(failure)

    def _lose(self, lease: str) -> None:
        """Everything that was held under a lease is booked as spent: forget it, and begin anew."""
        if self._ledger.holder_id != lease:
            return
        log.error("this process was taken for dead; what it held of budgets counts as spent")
        self._ledger.reopen()
        self._unbooked = []
        for limit in self._limits.values():
            limit.account = None
        lost, self._accounts = self._accounts, set()
        for account in lost:
            if account.refilling is None:
                self._let_go(account, None)

    # -- which limits hold

    def _match(self, subject: tuple[str, str | None, int | None, str, str | None]) -> tuple[_Limit, ...]:
        org_id, user_id, key_id, server_id, tool = subject
        keys = ["global", f"organization:{org_id}", f"server:{org_id}:{server_id}"]
        if user_id is not None:
            keys.append(f"user:{user_id}")
            keys += self._teams.get(user_id, ())
        if key_id is not None:
            keys.append(f"key:{key_id}")
        if tool is not None:
            keys.append(f"tool:{org_id}:{server_id}:{tool}")
        found = tuple(limit for key in keys for limit in self._by_scope.get(key, ()))
        if len(self._matches) >= MATCHES:
            self._matches.clear()
        self._matches[subject] = found
        return found

    def changed(self) -> None:
        """Limits have changed: read them again soon."""
        self._changed = True
        task = asyncio.create_task(self.settled())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Return when every change made in this process so far is in force."""
        if self._changed or self._reloading.locked():
            await self._reload()

    def __len__(self) -> int:
        """How many limits this process holds an allotment of."""
        return len(self._accounts)

    async def _reload(self) -> None:
        async with self._reloading:
            self._changed = False
            # Should it fail, the limits known so far stay in force, and the change is not forgotten.
            self._signature = None
            with self._outlived("budget limits could not be read, trying again"):
                await self._read()

    async def _read(self) -> None:
        signature = await self._source.signature()
        self._take_over(await self._source.load())
        self._signature, self._read_at = signature, self._clock.monotonic()

    def _take_over(self, loaded: Sequence[Terms]) -> None:
        before, self._limits, self._by_scope, self._teams = self._limits, {}, {}, {}
        self._matches.clear()
        for terms in loaded:
            limit = before.get(terms.id) or _Limit(terms)
            old, limit.terms, limit.unit = limit.terms, terms, terms.unit
            if old != terms:
                if (old.period, old.zone) != (terms.period, terms.zone):
                    limit.account = None
                elif limit.account is not None:
                    limit.account.refused_cost = 0
            self._limits[terms.id] = limit
            if terms.scope_key not in self._by_scope:
                for user_id in terms.members:
                    self._teams.setdefault(user_id, []).append(terms.scope_key)
            self._by_scope.setdefault(terms.scope_key, []).append(limit)
        for account in self._accounts:
            # More may be left than when it refused.
            account.refused_cost = 0

    # -- ticking

    async def start(self) -> None:
        """Begin. Limits that cannot be read end the start: with none known, everything would pass."""
        await self._read()
        self._ticking = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Settle everything, return what is left, and end the lease. Calls still under way count as spent."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for account in self._accounts:
            account.spent += account.in_flight
            account.in_flight = 0
        with self._outlived("budgets could not be settled; what this process held will count as spent"):
            await self._settle_all()
            await self._ledger.close()

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(TICK_SECONDS)
            await self.tick()

    async def tick(self) -> None:
        """One round of everything that is not on a call's path. What fails is tried again in the next."""
        lease = self._ledger.holder_id
        works = {
            "budgets could not be settled, trying again": self._settle_all,
            "the lease on budgets could not be renewed, trying again": self._ledger.renew,
        }
        if self._clock.monotonic() >= self._polled_at + RELOAD_SECONDS:
            works["changes of budget limits could not be looked for, trying again"] = self._follow
        for complaint, work in works.items():
            with self._outlived(complaint):
                try:
                    await work()
                except LeaseLost:
                    self._lose(lease)

    @contextmanager
    def _outlived(self, complaint: str) -> Generator[None]:
        """Go on whatever fails in here, and tell of it the first time in a row.

        Whatever it is, other work must not end with it. Nothing is lost: what was not booked is still here when it is
        tried again, and what a process holds at its end counts as spent.
        """
        try:
            yield
        except Exception:
            if complaint not in self._failing:
                log.exception(complaint)
            self._failing.add(complaint)
        else:
            self._failing.discard(complaint)

    async def _follow(self) -> None:
        now = self._polled_at = self._clock.monotonic()
        await self._ledger.lapse()
        if now >= self._read_at + REREAD_SECONDS or await self._source.signature() != self._signature:
            await self._reload()

    async def _settle_all(self) -> None:
        """Book what was spent, and return what lies idle."""
        async with self._booking:
            await self._book_again()
            now = self._now()
            for account in tuple(self._accounts):
                current = account.limit.account is account and account.limit.terms.id in self._limits
                over = not current or now >= account.window.ends_at
                idle = account.refilling is None and not account.used and not account.waiting
                returned = account.free if over or idle else 0
                account.used = False
                if account.period_id is not None and (returned or account.spent or account.overrun):
                    self._unbooked.append(Booking(account.period_id, account.spent, returned, account.overrun))
                    account.free -= returned
                    account.spent = account.overrun = 0
                    account.low = 0 if returned else account.low
                if over and account.quiet:
                    self._accounts.discard(account)
            await self._book_again()

    async def _book_again(self) -> None:
        """Book the batch at hand. If that fails it stays as it is, with its number, so that it is booked once."""
        if self._unbooked:
            await self._ledger.book(self._unbooked, self._ledger.sequence + 1)
            self._ledger.sequence += 1
            self._unbooked = []


def _cost(unit: Unit, usd: float, tokens: int) -> int:
    if unit == "calls":
        return 1
    if unit == "usd":
        return round(usd * _USD)
    # Minutes are of workspaces; calls of tools take none.
    return tokens if unit == "tokens" else 0
