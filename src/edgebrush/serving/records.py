"""What a station records about a generation at its end: a line of the log, and its spans in the trace of the task."""

from __future__ import annotations

import logging
import time

from edgebrush import traces

from .generation import Generation

log = logging.getLogger(__name__)


def record_end(generation: Generation) -> None:
    """Record the end of a generation. Its span is made now, in retrospect: it covers the time since the admission."""
    reason = reason_of(generation)
    seconds = round((time.time_ns() - generation.admitted_ns) / 1e9, 4)
    status = generation.error.detail.code if generation.error else "failed" if reason else "image"
    with traces.span(
        "serve",
        "server",
        generation.parent,
        generation.admitted_ns,
        generation=generation.id,
        station=generation.served_by,
        images=len(generation.jobs),
        steps=generation.steps,
        service_class=generation.request.service_class or 0,
        energy_j=generation.energy_j,
    ):
        for job in generation.jobs:
            traces.add_phases(wait=job.queue_s, denoise=job.compute_s)
        traces.describe_span(error=reason)
        log.info(
            "%s: %s after %.3g s%s",
            generation.id,
            status,
            seconds,
            f": {reason}" if reason else "",
            extra={
                "task": generation.id,
                "station": generation.served_by,
                "status": status,
                "reason": reason or None,
                "seconds": seconds,
            },
        )


def reason_of(generation: Generation) -> str:
    """Why an image of a generation is missing; "" where none is."""
    missing = [job for job in generation.jobs if job.image is None]
    if not missing:
        return ""
    return str(generation.error) if generation.error else missing[0].error
