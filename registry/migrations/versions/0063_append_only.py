"""The database itself refuses to change or remove records of changes and calls, and to remove chains.

Who owns the tables can take these triggers away, so they stop mistakes and stolen queries, not the owner: against the
owner stand the chains (`registry.audit.chain`). A later migration that must rewrite these tables drops and makes them
anew.
"""

from __future__ import annotations

from alembic import op

revision = "0063"
down_revision = "0062"

_REFUSED = {
    "audit_entries": ("UPDATE", "DELETE"),
    "calls": ("UPDATE", "DELETE"),
    # Chains grow, which is an update.
    "audit_chains": ("DELETE",),
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION gatehouse_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        )
    for table, verbs in _REFUSED.items():
        _refuse(table, verbs)


def downgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table, verbs in _REFUSED.items():
        if postgresql:
            op.execute(f"DROP TRIGGER append_only ON {table}")
        else:
            for verb in verbs:
                op.execute(f"DROP TRIGGER {table}_append_only_{verb.lower()}")
    if postgresql:
        op.execute("DROP FUNCTION gatehouse_append_only()")


def _refuse(table: str, verbs: tuple[str, ...]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        # For each statement: TRUNCATE knows no rows.
        when = " OR ".join((*verbs, "TRUNCATE"))
        op.execute(f"CREATE TRIGGER append_only BEFORE {when} ON {table} EXECUTE FUNCTION gatehouse_append_only()")
        return
    for verb in verbs:
        op.execute(
            f"CREATE TRIGGER {table}_append_only_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
