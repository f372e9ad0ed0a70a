"""Proving who one is by password and, where a person has set one up, a second factor.

The REST login and the sign-in page are two doors to this. A session is opened by who calls, once the proof is given.
"""

from __future__ import annotations

from registry.core.db import Database
from registry.identity.errors import SecondFactorNeeded
from registry.identity.service import IdentityService


async def by_password(
    database: Database, identity: IdentityService, email: str, password: str, code: str | None
) -> str:
    """The id of the user who has this password and, if need be, this code.

    Raises:
        LoginFailed: email or password is wrong.
        SecondFactorNeeded: they are right, but the code is missing or wrong.
    """
    user_id, needed = await first_factor(database, identity, email, password)
    if needed:
        await by_code(database, identity, user_id, code)
    return user_id


async def first_factor(database: Database, identity: IdentityService, email: str, password: str) -> tuple[str, bool]:
    """The id of the user who has this password, and whether a code is needed too. Raises `LoginFailed`."""
    # Checking a password takes its time, so it must not hold the write transaction.
    async with database.reading() as session:
        user_id = (await identity.check_password(session, email, password)).id
        return user_id, await identity.second_factors.needed(session, user_id)


async def by_code(database: Database, identity: IdentityService, user_id: str, code: str | None) -> None:
    """Raises `SecondFactorNeeded` unless this is a code of the user's, not used before."""
    if not code:
        raise SecondFactorNeeded("A code of the second factor is needed: send it as code.")
    # Refusals are counted, so they are committed before anything is raised.
    async with database.transaction() as session:
        right = await identity.second_factors.check(session, user_id, code)
    if not right:
        raise SecondFactorNeeded("The code is wrong, was used, or there were too many wrong ones: try the next one.")
