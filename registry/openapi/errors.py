"""What can go wrong with a description."""

from registry.core.errors import Invalid


class DescriptionInvalid(Invalid):
    """It is no OpenAPI description that tools can be made from."""

    def __init__(self, message: str, *, field: str = "document") -> None:
        super().__init__(message, field=field)
