"""Which requests a server answers: those for its own names, and not those that another site's page sends.

Web pages can have a browser send requests to servers on loopback and in the local network. Two checks refuse them:

- DNS rebinding: a page's own name is made to resolve to this server, so that the browser takes both for one site. The
  request carries that name in ``Host``. An IP address needs no check: it cannot be made to resolve to another one.
- Cross-site requests: the browser names the page's site in ``Origin``, or says ``Sec-Fetch-Site: cross-site``.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgebrush.errors import UserError

from .errors import ApiError, error_response, shortened

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}  # they change nothing, and another site cannot read the response
NOT_IN_HOST = set("/\\?#@")  # they would make other parts of a URL
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class AccessMiddleware:
    """Refuses requests for other hosts (421) and changes by other sites' pages (403); adds the security headers.

    ``hosts`` are the server's names beside localhost and IP addresses; ``origins`` the sites whose pages may use it.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str]):
        self.app = app
        self.hosts = {"localhost"} | {each.lower() for each in hosts}
        self.origins = {each.lower() for each in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        send = with_security_headers(send, close="transfer-encoding" in headers)
        refusal = self.refusal(scope["method"], headers)
        if refusal:
            await error_response(refusal, close=True)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def refusal(self, method: str, headers: Headers) -> ApiError | None:
        """Why a request is refused, None where it is not. Only HTTP/1.0 clients, no browsers, send no ``Host``."""
        host, origin = headers.get("host"), headers.get("origin")
        if host is not None and not self.is_own(host):
            name = shortened(host)
            message = f"host = {name}: this server does not answer to that name; if it is its own, add --allow-host"
            return ApiError(421, message, code="misdirected_request")
        if method in SAFE_METHODS:
            return None
        if origin is None and headers.get("sec-fetch-site") == "cross-site":
            return ApiError(403, "pages of another site may not use this server", code="cross_site_request")
        if origin is not None and not self.is_allowed(origin, host or ""):
            message = f"origin = {shortened(origin)}: pages of another site may not use this server; "
            return ApiError(403, f"{message}if you trust that site, add --allow-origin", code="cross_site_request")
        return None

    def is_own(self, host: str) -> bool:
        """Whether a ``Host`` is an IP address or one of the server's names, at any port."""
        if NOT_IN_HOST & set(host):
            return False
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return is_address(name) or name.removesuffix(".") in self.hosts

    def is_allowed(self, origin: str, host: str) -> bool:
        """Whether an ``Origin`` is this server itself (behind any scheme: a proxy may end TLS), or an allowed site."""
        origin = origin.lower()
        return origin in self.origins or (host != "" and origin.partition("://")[2] == host.lower())


def with_security_headers(send: Send, close: bool) -> Send:
    """A ``send`` that adds the security headers to a response, and ends the connection after it if ``close``.

    The end of a chunked body is where parsers differ, so nothing is read after one on the same connection.
    """

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-content-type-options"] = "nosniff"
            if headers.get("content-type", "").startswith("text/html"):
                headers.setdefault("content-security-policy", PAGE_POLICY)
            if close:
                headers["connection"] = "close"
        await send(message)

    return send_with_headers


def is_address(name: str) -> bool:
    """Whether a host is an IP address in its standard form."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def checked_host(name: str) -> str:
    """A value of --allow-host. Raises ``UserError`` unless it is a name alone."""
    if not name or any(not (each.isalnum() or each in "-._") for each in name):
        raise UserError(f"allow-host = {name!r}: must be a name without scheme and port, such as station.example")
    return name


def checked_origin(origin: str) -> str:
    """A value of --allow-origin. Raises ``UserError`` unless it has the form that browsers send."""
    try:
        parts = urlsplit(origin)
        is_origin = parts.scheme in ("http", "https") and origin == f"{parts.scheme}://{parts.netloc}" and parts.netloc
    except ValueError:
        is_origin = ""
    if not is_origin or "@" in origin or "*" in origin:
        raise UserError(f"allow-origin = {origin!r}: must be scheme://host[:port], such as https://images.example")
    return origin
