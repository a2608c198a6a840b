"""HTML pages whose content security policy runs only the scripts that they were shipped with."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi.responses import HTMLResponse

from .access import PAGE_POLICY

INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def page_response(html: str) -> HTMLResponse:
    """A page that is not cached, and whose own inline scripts run, but none that gets into it otherwise."""
    digests = (hashlib.sha256(script.encode()).digest() for script in INLINE_SCRIPT.findall(html))
    hashes = "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    policy = PAGE_POLICY.replace("script-src 'self'", f"script-src 'self'{hashes}")
    return HTMLResponse(html, headers={"content-security-policy": policy, "cache-control": "no-store"})
