"""The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for when it is lost.

Knows nothing of passwords or pages: who signs in asks `check` after the first factor. Refused attempts are counted,
so callers must commit them; `check` therefore answers instead of raising.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import delete, update

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session
from registry.core.errors import Conflict, Forbidden, Invalid
from registry.core.security import Digester, Sealer
from registry.identity.models import RecoveryCode, SecondFactor, User
from registry.identity.principal import Principal

ISSUER = "Gatehouse"
STEP_SECONDS = 30
RECOVERY_CODES = 10
MOST_FAILURES = 5
LOCKED_FOR = timedelta(minutes=5)
"""After so many wrong codes in a row, none is looked at for so long."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app is given, once. `uri` is the content of the usual QR code."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


class SecondFactors:
    def __init__(self, clock: Clock, audit: AuditService, master: bytes) -> None:
        self._clock = clock
        self._audit = audit
        self._sealer = Sealer(master, "second-factors")
        self._digests = Digester(master, "recovery-codes")

    async def needed(self, session: Session, user_id: str) -> bool:
        """Whether this person signs in with a code."""
        factor = await session.get(SecondFactor, user_id)
        return factor is not None and factor.confirmed_at is not None

    async def enrol(self, session: Session, principal: Principal) -> Enrolment:
        """A new secret, which counts once `confirm` has seen a code of it.

        Raises:
            Forbidden: not signed in in person.
            Conflict: there is a confirmed factor; remove it first.
        """
        # Heavy vendor, imported when somebody uses a second factor.
        from pyotp import random_base32
        from pyotp.totp import TOTP

        user = await _in_person(session, principal)
        factor = await session.get(SecondFactor, user.id)
        if factor is not None and factor.confirmed_at is not None:
            raise Conflict("There is a second factor already: remove it first.")
        secret = random_base32()
        if factor is None:
            factor = SecondFactor(user_id=user.id, created_at=self._clock.now())
            session.add(factor)
        factor.sealed_secret = self._sealer.seal(secret.encode(), user.id)
        return Enrolment(secret, TOTP(secret).provisioning_uri(name=user.email, issuer_name=ISSUER))

    async def confirm(self, session: Session, principal: Principal, code: str) -> list[str]:
        """Put the enrolled secret in force; gives recovery codes, shown once.

        Raises:
            Forbidden: not signed in in person.
            Invalid: nothing was enrolled, or the code is not its.
        """
        user = await _in_person(session, principal)
        factor = await session.get(SecondFactor, user.id)
        step = self._step_of(factor, code) if factor is not None and factor.confirmed_at is None else None
        if factor is None or step is None:
            raise Invalid("The code is wrong, or nothing was enrolled.", field="code")
        factor.confirmed_at, factor.last_step = self._clock.now(), step
        codes = ["-".join(secrets.token_hex(3) for _ in range(2)) for _ in range(RECOVERY_CODES)]
        session.add_all(RecoveryCode(user_id=user.id, code_hash=self._digests.digest(text)) for text in codes)
        await self._audit.record(session, principal, "second_factors.create", target=("user", user.id))
        return codes

    async def remove(self, session: Session, principal: Principal) -> None:
        """Sign in without a code from now on; the caller has asked for one before. Raises `Forbidden`."""
        user = await _in_person(session, principal)
        await session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
        await session.execute(delete(SecondFactor).where(SecondFactor.user_id == user.id))
        await self._audit.record(session, principal, "second_factors.delete", target=("user", user.id))

    async def check(self, session: Session, user_id: str, code: str) -> bool:
        """Whether `code` is one of this person's, now and not used before; it is used up by this."""
        factor = await session.get(SecondFactor, user_id, with_for_update=True)
        now = self._clock.now()
        if factor is None or factor.confirmed_at is None:
            return False
        if factor.locked_until is not None and factor.locked_until > now:
            return False
        step = self._step_of(factor, code)
        if await (
            self._use_recovery_code(session, user_id, code) if step is None else self._use(session, user_id, step)
        ):
            factor.failures = 0
            return True
        factor.failures += 1
        if factor.failures >= MOST_FAILURES:
            factor.failures, factor.locked_until = 0, now + LOCKED_FOR
        return False

    def _step_of(self, factor: SecondFactor, code: str) -> int | None:
        """The time step that the code belongs to: this one or a neighbour, for clocks that differ a little."""
        # Heavy vendor, imported when somebody uses a second factor.
        from pyotp.totp import TOTP

        totp = TOTP(self._sealer.open(factor.sealed_secret, factor.user_id).decode())
        now = int(self._clock.now().timestamp()) // STEP_SECONDS
        given = code.replace(" ", "")
        steps = (step for step in (now - 1, now, now + 1) if _same(totp.generate_otp(step), given))
        return next(steps, None)

    async def _use(self, session: Session, user_id: str, step: int) -> bool:
        claim = (
            update(SecondFactor)
            .where(SecondFactor.user_id == user_id, SecondFactor.last_step < step)
            .values(last_step=step)
            .returning(SecondFactor.user_id)
        )
        return (await session.execute(claim)).scalar_one_or_none() is not None

    async def _use_recovery_code(self, session: Session, user_id: str, code: str) -> bool:
        used = (
            delete(RecoveryCode)
            .where(
                RecoveryCode.user_id == user_id, RecoveryCode.code_hash == self._digests.digest(code.strip().lower())
            )
            .returning(RecoveryCode.id)
        )
        return (await session.execute(used)).first() is not None


def _same(code: str, given: str) -> bool:
    return secrets.compare_digest(code.encode(), given.encode("utf-8", "replace"))


async def _in_person(session: Session, principal: Principal) -> User:
    """A key or token that was copied must not be able to lock its owner out."""
    if principal.user_id is None or principal.session_id is None or principal.audience is not None:
        raise Forbidden("This needs a login session: sign in, keys are not enough.")
    return await session.get_one(User, principal.user_id)
