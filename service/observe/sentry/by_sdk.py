"""sentry-sdk as the client. Events, scrubber and outbox are ours.

It is not the SDK's global client: that one belongs to handlers, which may call `sentry_sdk.init`.
"""

from typing import Any

import sentry_sdk
from sentry_sdk.consts import EndpointType
from sentry_sdk.envelope import Envelope
from sentry_sdk.scrubber import EventScrubber
from sentry_sdk.transport import Transport

from service.observe.sentry.event import Event
from service.observe.sentry.outbox import Outbox, parcel

NAME = f"sentry.python/{sentry_sdk.VERSION}"


class SdkClient:
    def __init__(self, dsn: str, outbox: Outbox) -> None:
        class Post(Transport):
            def capture_envelope(self, envelope: Envelope) -> None:
                assert self.parsed_dsn is not None
                auth = self.parsed_dsn.to_auth(NAME)
                headers = {
                    "User-Agent": NAME,
                    "X-Sentry-Auth": auth.to_header(),
                    "Content-Type": "application/x-sentry-envelope",
                }
                outbox.put(parcel(auth.get_api_url(EndpointType.ENVELOPE), headers, envelope.serialize()))

        self._client = sentry_sdk.Client(
            dsn,
            transport=Post,
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            enable_backpressure_handling=False,
            send_client_reports=False,
            include_local_variables=False,
            release="",  # the event has its own; without one here, the SDK calls git
            event_scrubber=EventScrubber(denylist=[], pii_denylist=[]),
            before_send=_as_it_was,
            spotlight=False,
            debug=False,
        )

    def deliver(self, event: Event) -> None:
        self._client.capture_event(event, hint={"event": event})  # type: ignore[arg-type]


def _as_it_was(cut: Any, hint: dict[str, Any]) -> Any:
    """The event as we made it: the SDK's serializer would keep ten members of each list."""
    return hint["event"]
