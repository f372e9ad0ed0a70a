"""What can go wrong with notifications."""

from __future__ import annotations

from registry.core.errors import Forbidden, GatehouseError, Invalid, NotFound, Unavailable


class ChannelNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("Notification channel not found")


class ChannelInvalid(Invalid):
    pass


class AppriseNeedsOperator(Forbidden):
    def __init__(self) -> None:
        super().__init__(
            "A channel of type apprise connects by itself, past the rules for outgoing connections, so it needs the "
            "permission gateway:operate. Use email, slack, webhook or pagerduty instead."
        )


class MailNotConfigured(Unavailable):
    def __init__(self) -> None:
        super().__init__("No mail server is configured: set GATEHOUSE_SMTP_URL, like smtp://user:password@host:587.")


class AppriseMissing(Unavailable):
    def __init__(self) -> None:
        super().__init__("Channels of type apprise need the extra: pip install 'gatehouse[notifications]'.")


class StillDelivering(GatehouseError):
    """A removed server's channels have notices to deliver yet."""

    status = 409
    code = "STILL_DELIVERING"
    title = "Still delivering"


class DeliveryFailed(GatehouseError):
    """The receiver was not reached, or did not accept."""

    status = 502
    code = "DELIVERY_FAILED"
    title = "Delivery failed"
