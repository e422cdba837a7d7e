"""The server: bound to this machine, guarded by host name, and by a token where others may reach it.

Every request passes :class:`Gate`. It refuses names of hosts that are not the server's own, so that no other site can reach it
through a name that it points at this machine; it demands the token, if there is one; and its policy forbids the page to load
anything from elsewhere.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from html import escape
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from sigmatune.studio.places import UPLOAD
from sigmatune.support.errors import SigmaTuneError

LOCAL = ("127.0.0.1", "localhost", "::1")
COOKIE = "sigmatune-token"
LEAST_TOKEN = 12

POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""The page's content security policy: everything from the server itself; gradio compiles its templates in the browser."""

ASKED = "Open the studio with its token: http://HOST:PORT/?token=TOKEN. The terminal that runs it shows this address."
WRONG = f"This token is not the studio's. {ASKED}"

REFUSAL = """<!doctype html><html lang="en"><meta charset="utf-8"><title>SigmaTune studio</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<body style="font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 12vh auto; padding: 0 1rem">
<h1 style="font-size: 1.3rem">SigmaTune studio</h1><p role="alert">{words}</p></body></html>
"""
"""The page of a refusal."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Send], Awaitable[None]]


class Gate:
    """Guards an application.

    Args:
        app: The application.
        hosts: The names under which it may be addressed; empty for any, which needs a token.
        token: What every request has to show, as ``?token=`` once, then as a cookie; None for none.
    """

    def __init__(self, app: App, hosts: tuple[str, ...], token: str | None) -> None:
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        refusal = self._refusal(headers, given)
        if refusal is not None:
            await _refuse(scope, send, *refusal, page="text/html" in headers.get("accept", ""))
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._added(given)]
            await send(message)

        await self.app(scope, receive, sent)

    def _refusal(self, headers: dict[str, str], given: str) -> tuple[int, str] | None:
        host = hostname(headers.get("host", ""))
        if self.hosts and host not in self.hosts:
            return 421, f"The studio does not answer to this name; open it as {self.hosts[0]}."
        origin = headers.get("origin", "")
        if origin and origin != "null" and hostname(origin.partition("://")[2]) != host:
            return 403, "Another site may not use the studio."
        if self.token is not None and not any(same(one, self.token) for one in (given, _cookie(headers))):
            return 401, WRONG if given else ASKED
        return None

    def _added(self, given: str) -> list[tuple[bytes, bytes]]:
        added = {
            "content-security-policy": POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
        }
        if self.token is not None and same(given, self.token):
            added["set-cookie"] = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        return [(name.encode(), value.encode("latin-1")) for name, value in added.items()]


def hostname(address: str) -> str:
    """The name in ``name:port`` or ``[name]:port``."""
    if address.startswith("["):
        return address[1:].partition("]")[0].lower()
    return address.partition("/")[0].partition(":")[0].lower()


def same(one: str, other: str) -> bool:
    """Whether two secrets agree, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def _cookie(headers: dict[str, str]) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


async def _refuse(scope: Scope, send: Send, code: int, words: str, *, page: bool) -> None:
    """Answers with a sentence: a page for whoever opens one, plain text for a program."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    kind = "html" if page else "plain"
    headers = [(b"content-type", f"text/{kind}; charset=utf-8".encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    body = REFUSAL.format(words=escape(words)) if page else f"{words}\n"
    await send({"type": "http.response.body", "body": body.encode()})


def checked(host: str, token: str) -> tuple[tuple[str, ...], str | None]:
    """The names to answer to, and the token, for the options ``--host`` and ``--token``.

    Raises:
        SigmaTuneError: for a host without a token, or a token that is short or has characters that a link cannot hold.
    """
    if token and (
        len(token) < LEAST_TOKEN or not token.isascii() or not token.replace("-", "").replace("_", "").isalnum()
    ):
        raise SigmaTuneError(
            f"--token must have at least {LEAST_TOKEN} letters, digits, - or _, so that it cannot be guessed."
        )
    if host in LOCAL:
        return LOCAL, token or None
    if not token:
        raise SigmaTuneError(
            f"--host {host} lets other machines reach the studio, so it needs --token; choose a long one."
        )
    return (), token


@dataclass(frozen=True)
class Listening:
    """Where the page answers, and to whom.

    Attributes:
        port: Its port; 0 for a free one.
        host, token: See :func:`checked`.
    """

    port: int
    host: str
    token: str


def serve(first: Any, where: Listening, *, start: Path, device: str, opened: Callable[[str], None]) -> None:
    """Serves the page until it is interrupted.

    Args:
        first: The :class:`~sigmatune.studio.page_state.PageState` in which it opens.
        where: Where it answers, and to whom.
        start: Below which files may be read.
        device: Where models run.
        opened: Called with the page's address when it answers.

    Raises:
        SigmaTuneError: if gradio is not installed, or the port is taken.
    """
    hosts, secret = checked(where.host, where.token)
    folder = Path(tempfile.mkdtemp(prefix="sigmatune-studio-"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    try:
        _run(application(first, start, folder, device), hosts, secret, (where.host, where.port), opened)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def application(first: Any, start: Path, folder: Path, device: str) -> Any:
    """The page as an ASGI application, without its gate."""
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError:
        raise SigmaTuneError("the studio needs gradio; install it with: pip install 'sigmatune[studio]'.") from None
    from sigmatune.studio.callbacks import Studio
    from sigmatune.studio.held_models import HeldModels
    from sigmatune.studio.page_blocks import blocks, settings
    from sigmatune.studio.places import Places
    from sigmatune.studio.sessions import Sessions

    studio = Studio(
        HeldModels(device), Sessions(folder / "sessions"), Places(start, folder / "uploads", first.model), first
    )
    studio.held(first)  # a model that cannot be loaded is refused here, and the first page does not wait for it
    page = blocks(studio)
    page.queue(default_concurrency_limit=16, max_size=64)
    return gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None), page, path="/", max_file_size=UPLOAD,
        allowed_paths=[str(folder / "sessions")], **settings(),
    )  # fmt: skip


def _run(
    app: Any, hosts: tuple[str, ...], token: str | None, place: tuple[str, int], opened: Callable[[str], None]
) -> None:
    import socket

    import uvicorn

    host, port = place
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)  # before the address is told, so that whoever is quick waits and is not refused
        except OSError as error:
            raise SigmaTuneError(
                f"cannot listen at {host}:{port}: {error.strerror or error}; choose another --port."
            ) from None
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        opened(f"http://{shown}:{bound}/" + (f"?token={token}" if token else ""))
        config = uvicorn.Config(
            Gate(app, hosts, token), log_level="warning", access_log=False, timeout_graceful_shutdown=2
        )
        logging.getLogger("uvicorn.error").addFilter(_worth_saying)
        uvicorn.Server(config).run(sockets=[listener])


def _worth_saying(record: logging.LogRecord) -> bool:
    """Whether a line of the server's log is none of those about open pages that an interrupt cuts off."""
    cut = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut and "graceful shutdown" not in record.getMessage()
