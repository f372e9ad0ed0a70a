"""The resources, by the addresses that the suite's scenarios read."""

from __future__ import annotations

import json
import re

from tests.support.servers.conformance.call import Json
from tests.support.servers.conformance.media import PNG
from tests.support.servers.conformance.offer import Offer
from tests.support.servers.conformance.tools import WATCHED

TEXT, BINARY = "test://static-text", "test://static-binary"
_TEMPLATE = re.compile(r"test://template/([^/]+)/data")

RESOURCES: list[Json] = [
    {"uri": TEXT, "name": "static-text", "description": "A sentence.", "mimeType": "text/plain"},
    {"uri": BINARY, "name": "static-binary", "description": "A picture.", "mimeType": "image/png"},
    {"uri": WATCHED, "name": "watched-resource", "description": "Changes on request.", "mimeType": "text/plain"},
]
TEMPLATES: list[Json] = [
    {
        "uriTemplate": "test://template/{id}/data",
        "name": "template-data",
        "description": "Tells the id in its address.",
        "mimeType": "application/json",
    }
]


def read(uri: str, offer: Offer) -> Json | None:
    """What is at an address, None where nothing is."""
    if uri == TEXT:
        return _text(uri, "text/plain", "This is the content of the static text resource.")
    if uri == WATCHED:
        return _text(uri, "text/plain", f"Version {offer.versions} of the watched resource.")
    if uri == BINARY:
        return {"contents": [{"uri": uri, "mimeType": "image/png", "blob": PNG}]}
    found = _TEMPLATE.fullmatch(uri)
    if found is None:
        return None
    data = {"id": found[1], "templateTest": True, "data": f"Data for ID: {found[1]}"}
    return _text(uri, "application/json", json.dumps(data))


def _text(uri: str, kind: str, words: str) -> Json:
    return {"contents": [{"uri": uri, "mimeType": kind, "text": words}]}
