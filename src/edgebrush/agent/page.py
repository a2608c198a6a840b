"""The status page of an agent: one self-contained HTML page without scripts."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import time
from pathlib import Path
from typing import Any

import jinja2
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from .agent import Agent

TEMPLATE = Path(__file__).with_name("status.html")
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def add_status_page(app: FastAPI, agent: Agent) -> None:
    """Serve the status page at ``/``. The policy of its content allows its own style and nothing else."""
    source = TEMPLATE.read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"bps": format_rate, "seconds": format_seconds, "clock": format_clock}
    template = environment.from_string(source)
    digest = hashlib.sha256("".join(STYLE.findall(source)).encode()).digest()
    policy = (
        f"default-src 'none'; style-src 'sha256-{base64.b64encode(digest).decode()}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "cache-control": "no-store", "referrer-policy": "no-referrer"}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def status() -> HTMLResponse:
        return HTMLResponse(template.render(status_of(agent)), headers=headers)


def status_of(agent: Agent) -> dict[str, Any]:
    """The values of the template."""
    now, observer = agent.clock(), agent.observer
    stations = [
        {"name": station.name, "available": not station.unavailable, "view": station.view_at(now)}
        for station in agent.stations
    ]
    counts = agent.history.counts
    return {
        "title": f"ue {observer.ue + 1} of {observer.scenario.name}",
        "policy": agent.policy.name,
        "battery": observer.level,
        "running": len(agent.running),
        "journal_problem": agent.journal.problem,
        "uptime_s": time.monotonic() - agent.history.started_s,
        "images": sum(count for (_, outcome), count in counts.items() if outcome == "image"),
        "errors": sum(count for (_, outcome), count in counts.items() if outcome != "image"),
        "own": agent.device.queue(),
        "queue_limit": agent.device.queue_limit,
        "stations": stations,
        "now": now,
        "counts": sorted(counts.items()),
        "decisions": agent.history.decisions,
    }


def format_rate(bps: float) -> str:
    """Bits per second with a suitable unit."""
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bps >= size:
            return f"{bps / size:.3g} {unit}"
    return f"{bps:.3g} bit/s"


def format_seconds(seconds: float) -> str:
    """A duration in one suitable unit."""
    if not math.isfinite(seconds):
        return "never"
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def format_clock(seconds: float) -> str:
    """The time of day of a Unix time."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))
