"""A REST service with its description, for tests: it remembers what it was sent."""

from __future__ import annotations

from typing import Any

from aiohttp import web

PNG = bytes.fromhex("89504e470d0a1a0a") + bytes(16)


def description(**changes: Any) -> dict[str, Any]:
    pet = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "nick": {"type": "string", "nullable": True},
            "age": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
            "friends": {"type": "array", "items": {"$ref": "#/components/schemas/Pet"}},
        },
    }
    answer = {
        "200": {"description": "ok", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}}
    }
    pet_id = {
        "name": "petId",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "Which pet.",
    }
    filter_by = {
        "name": "filter",
        "in": "query",
        "style": "deepObject",
        "explode": True,
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    return {
        "openapi": "3.0.3",
        "info": {"title": "Pets", "version": "2.1"},
        "servers": [{"url": "{scheme}://pets.example/v2", "variables": {"scheme": {"default": "https"}}}],
        "paths": {
            "/pets/{petId}": {
                "parameters": [{"$ref": "#/components/parameters/PetId"}],
                "get": {"operationId": "getPet", "summary": "Show a pet", "tags": ["read"], "responses": answer},
                "put": {
                    "operationId": "putPet",
                    "tags": ["write"],
                    "parameters": [{"name": "X-Trace", "in": "header", "schema": {"type": "string"}}],
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                    },
                    "responses": answer,
                },
                "delete": {
                    "operationId": "deletePet",
                    "tags": ["write"],
                    "responses": {"204": {"description": "gone"}},
                },
            },
            "/pets": {
                "get": {
                    "tags": ["read"],
                    "parameters": [
                        {"name": "tag", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                        {"name": "ids", "in": "query", "explode": False, "schema": {"type": "array"}},
                        filter_by,
                        {"name": "session", "in": "cookie", "schema": {"type": "string"}},
                        {"name": "Authorization", "in": "header", "schema": {"type": "string"}},
                        {"name": "X-Key", "in": "header", "schema": {"type": "string"}},
                    ],
                    "responses": {
                        "200": {"description": "ok", "content": {"application/json": {"schema": {"type": "array"}}}}
                    },
                },
                "post": {
                    "operationId": "adopt/now",
                    "requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}}},
                    "responses": {"201": {"description": "made"}},
                },
            },
            "/picture": {"get": {"operationId": "picture", "responses": {"200": {"description": "png"}}}},
            "/file": {
                "get": {"operationId": "file", "responses": {"200": {"description": "bytes"}}},
                "post": {
                    "operationId": "upload",
                    "requestBody": {"content": {"multipart/form-data": {"schema": {"type": "object"}}}},
                    "responses": {},
                },
            },
        },
        "components": {"schemas": {"Pet": pet}, "parameters": {"PetId": pet_id}},
        **changes,
    }


class Pets:
    """The service.

    Attributes:
        requests: method, path with its query as sent, headers and body of each request.
        answer: what it answers, unless the path has an answer of its own.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""
        self.description: str | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def answers(self, **kwargs: Any) -> None:
        """What to answer from now on; the arguments are those of a response."""
        self._make = lambda: web.Response(**kwargs)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        if request.path == "/openapi.yaml" and self.description is not None:
            return web.Response(text=self.description, content_type="application/yaml")
        if request.path.endswith("/picture"):
            return web.Response(body=PNG, content_type="image/png")
        if request.path.endswith("/file"):
            return web.Response(body=b"\x00\x01", content_type="application/octet-stream")
        return self._make()

    def _make(self) -> web.Response:
        return web.json_response({"name": "Rex"})
