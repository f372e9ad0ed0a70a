from tests.support.database import (  # noqa: F401
    postgres_template,
    sqlite_template,
)
