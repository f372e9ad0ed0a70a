from tests.support.database import (  # noqa: F401
    database,
    database_url,
    empty_database_url,
    events,
    postgres_template,
    sqlite_template,
)
