"""Guards the server: who may ask, from where, and how much; and what the browser may load.

A page on the internet can make a browser send requests to 127.0.0.1, or let its own name point
there (DNS rebinding). So the `Host` header must be ours, and a request that another site's page
sends is refused by `Origin` and `Sec-Fetch-Site`.
"""

import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response

from retouch.web.settings import LOOPBACK, Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
        " connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Wraps the application; refuses before a body is read.

    Args:
        app: The application.
        settings: Host, token and limits.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.cookie = f"retouch-{settings.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request (ASGI)."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # websockets are not spoken here
        headers = Headers(scope=scope)
        answer = self._refusal(scope, headers) or self._admission(scope, headers)
        sending = _with_headers(send)
        if answer is not None:
            await answer(scope, receive, sending)
            return
        await self.app(scope, _limited(receive, self.settings.max_upload), sending)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return _refuse(421, f"this server is not called {host[:100]!r}")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return _refuse(403, "requests from another site's page are refused")
        site = headers.get("sec-fetch-site")
        if site in ("cross-site", "same-site") and scope["path"].startswith("/api/"):
            return _refuse(403, "requests from another site's page are refused")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return _refuse(400, "content-length is no number")
        if int(length) > self.settings.max_upload:
            return _refuse(413, f"more than {self.settings.max_upload} bytes")
        return None

    def _admission(self, scope: Scope, headers: Headers) -> Response | None:
        """None for requests that carry the token (or need none)."""
        if self.settings.token is None:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and given:
            if not self._matches(given):
                return _refuse(401, "the token is wrong")
            redirect = RedirectResponse("/", 303)  # keeps the token out of address bar and history
            redirect.set_cookie(self.cookie, given, httponly=True, samesite="strict")
            return redirect
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        cookie = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        if self._matches(bearer) or self._matches(cookie):
            return None
        refusal = _refuse(401, "a token is needed: open the address that `retouch ui` printed")
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    def _matches(self, given: str) -> bool:
        wanted = self.settings.token or ""
        return secrets.compare_digest(given.encode(), wanted.encode())

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if self.settings.is_loopback:
            return name in LOOPBACK or name in self.settings.allowed_hosts
        known = (*LOOPBACK, self.settings.host, socket.gethostname().lower())
        return name in known or name in self.settings.allowed_hosts or _is_address(name)


def _is_address(name: str) -> bool:
    """A number cannot be rebound: only names can."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refuse(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)


def _limited(receive: Receive, limit: int) -> Receive:
    """Count the bytes of the body as they come, whatever its header promised."""
    count = 0

    async def receiving() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > limit:
            raise HTTPException(413, f"more than {limit} bytes")
        return message

    return receiving


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for key, value in _HEADERS.items():
                headers[key] = value
            headers.setdefault("Cache-Control", "no-cache")
        await send(message)

    return sending
