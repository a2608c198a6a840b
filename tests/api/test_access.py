"""Who is served: DNS rebinding and other sites' pages are refused; the security headers of every response."""

import asyncio
import base64
import hashlib

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.datastructures import Headers

from edgebrush.api.access import PAGE_POLICY, AccessMiddleware, checked_host, checked_origin
from edgebrush.api.pages import page_response
from edgebrush.api.server import Address, guarded
from edgebrush.errors import UserError

SITE = "https://images.example"


def make_app():
    app = FastAPI()

    @app.get("/metrics")
    async def metrics() -> str:
        return "up"

    @app.post("/images")
    async def images() -> str:
        return "made"

    @app.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse("<p>hello</p>")

    @app.get("/scripted")
    async def scripted() -> HTMLResponse:
        return page_response("<script>1 + 1</script>")

    return app


def request(method, path, headers=None, **allowed):
    """The response of a guarded application, without a server."""

    async def send():
        transport = httpx2.ASGITransport(guarded(make_app(), Address(**allowed)))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(send())


def assert_refused(response, status, code, fix):
    error = response.json()["error"]
    assert response.status_code == status and error["code"] == code and fix in error["message"]
    assert set(error) == {"message", "type", "param", "code"} and response.headers["connection"] == "close"


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost:8000", "localhost.", "127.0.0.1:8000", "127.9.9.9", "10.0.0.5:80", "0.0.0.0:8000"),
        *("[::1]:8000", "[fe80::1]", "bs-1.example:8000", "BS-1.example", "bound.example"),
    ],
)
def test_own_names_and_addresses_are_served(host):
    response = request("POST", "/images", {"host": host}, host="bound.example", allowed_hosts=("bs-1.example",))
    assert response.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "bs-1.example.evil"),
        *("evil.example#localhost", "evil.example@localhost.evil", "", ":8000", "[::1", "localhost, evil.example"),
        *("localhost/x", "localhost?x", "user@localhost", "localhost\\x"),
        *("2130706433", "0x7f.1", "127.1"),  # browsers send addresses in their standard form
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/images", "/page"])
def test_dns_rebinding_is_refused_on_all_paths(host, path):
    response = request("GET", path, {"host": host}, allowed_hosts=("bs-1.example",))
    assert_refused(response, 421, "misdirected_request", "add --allow-host")


def test_prometheus_may_scrape_by_an_allowed_name():
    assert request("GET", "/metrics", {"host": "station:8000"}, allowed_hosts=("station",)).text == '"up"'


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8000"])
def test_other_sites_pages_may_not_change_anything(method, origin):
    response = request(method, "/images", {"origin": origin})
    assert_refused(response, 403, "cross_site_request", "add --allow-origin")


def test_without_a_host_no_origin_is_the_servers_own():
    """Only HTTP/1.0 may come without a host."""
    access = AccessMiddleware(make_app(), (), ())
    assert access.refusal("POST", Headers({"origin": "null"})).status == 403
    assert access.refusal("POST", Headers({})) is None


def test_browsers_that_send_no_origin_are_refused_by_their_fetch_metadata():
    assert_refused(request("POST", "/images", {"sec-fetch-site": "cross-site"}), 403, "cross_site_request", "pages of")
    assert request("POST", "/images", {"sec-fetch-site": "same-origin"}).status_code == 200
    assert request("POST", "/images", {"sec-fetch-site": "none"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost:8000", "https://localhost:8000", "HTTP://LOCALHOST:8000"])
def test_the_servers_own_pages_are_served(origin):
    assert request("POST", "/images", {"origin": origin}).status_code == 200


def test_an_allowed_sites_page_is_served_with_cors_headers():
    allowed = {"allowed_origins": (SITE,)}
    response = request("POST", "/images", {"origin": SITE}, **allowed)
    assert response.status_code == 200 and response.headers["access-control-allow-origin"] == SITE
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    preflight = request("OPTIONS", "/images", {"origin": SITE, **asks}, **allowed)
    assert preflight.status_code == 200 and "authorization" in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in preflight.headers
    other = request("OPTIONS", "/images", {"origin": "https://evil.example", **asks}, **allowed)
    assert other.status_code == 400 and "access-control-allow-origin" not in other.headers
    assert request("POST", "/images", {"origin": "https://evil.example"}, **allowed).status_code == 403


@pytest.mark.parametrize(("method", "path"), [("GET", "/metrics"), ("POST", "/images"), ("OPTIONS", "/images")])
def test_no_cors_headers_by_default(method, path):
    response = request(method, path, {"origin": "http://localhost:8000", "access-control-request-method": "POST"})
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/metrics", "/page", "/nowhere"])
def test_security_headers(path):
    for response in (request("GET", path), request("GET", path, {"host": "evil.example"})):
        assert response.headers["x-content-type-options"] == "nosniff" and "server" not in response.headers
    is_page = path == "/page"
    assert request("GET", path).headers.get("content-security-policy") == (PAGE_POLICY if is_page else None)
    assert "frame-ancestors 'none'" in PAGE_POLICY and "unsafe-inline" not in PAGE_POLICY.partition("style-src")[0]


def test_a_pages_own_scripts_are_allowed_by_their_digest():
    policy = request("GET", "/scripted").headers["content-security-policy"]
    digest = base64.b64encode(hashlib.sha256(b"1 + 1").digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "script-src 'self' 'unsafe-inline'" not in policy and "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("name", ["", "http://bs.example", "bs.example:80", "*", "*.example", "a b", "bs.example/"])
def test_invalid_hosts_to_allow_are_errors(name):
    with pytest.raises(UserError, match=r"allow-host = .* must be a name without scheme and port"):
        checked_host(name)


@pytest.mark.parametrize(
    "origin",
    ["", "*", "null", "images.example", "https://", "https://images.example/", "ftp://x", "https://a@b", "h://["],
)
def test_invalid_origins_to_allow_are_errors(origin):
    with pytest.raises(UserError, match=r"allow-origin = .* must be scheme://host\[:port\]"):
        checked_origin(origin)
