"""Why a BS cannot be reached or read, in words: the cause and what to do about it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx2

from edgebrush.api.errors import printable

OTHER_NAME = (62, 64)  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
HINTS = {
    401: "; give its token by --station-token-env, or by api_key_env in the scenario",
    403: "; its token is not allowed to do this",
    404: "; check the address and, in the scenario, endpoint.kind",
    421: "; start it with --allow-host and the name in its address",
}


def reason_of(error: Exception) -> str:
    """One line about an exchange that failed; the exception is one of httpx2's, a ``TimeoutError`` or of this room."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in OTHER_NAME:
            return f"its certificate is for another name ({cause.verify_message.rstrip('.')}); use a name in it"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message}); give its CA by --ca-file"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS connection ({cause.reason or cause}); check http:// and https://"
        if isinstance(cause, socket.gaierror):
            return f"its name is unknown ({cause.strerror}); check the address"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused; check that it runs, and its port"
    if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
        return "no answer in time; check that it runs, the address and the firewall"
    if isinstance(error, (httpx2.ReadError, httpx2.RemoteProtocolError)):
        return f"the connection ended without an answer ({printable(str(error)) or type(error).__name__})"
    if isinstance(error, httpx2.HTTPError):
        return printable(f"{type(error).__name__}: {error}").rstrip(": ")
    return str(error)


def reason_of_status(status: int) -> str:
    """One line about the status of a load request."""
    return f"status {status} to its load request{HINTS.get(status, '')}"


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, those that it came from, and those of exception groups."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__ or each.__context__, *getattr(each, "exceptions", ())]
