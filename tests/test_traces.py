"""Traces: one per task, through agent and station, with the right parents; who may set a parent; the exporter."""

import asyncio
import json
import logging
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from fastapi.testclient import TestClient

from edgebrush import traces
from edgebrush.agent.app import create_app as agent_app
from edgebrush.cli.main import run
from edgebrush.logs import JsonFormatter
from edgebrush.serving.app import create_app as station_app
from tests.support.agents import LARGE, SMALL, PreferSlots, generate_all, make_agent, make_task, running_agent
from tests.support.fakes import FakeStation
from tests.support.models import Formula, RecordingBackend
from tests.support.processes import free_port
from tests.support.serving import CIRCLE, IMAGES, in_memory, make_station

TOKEN = "open-sesame"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the example of W3C's specification
INVALID_PARENTS = [
    "",
    "x",
    PARENT[:-1],
    PARENT + "-extra",
    PARENT.replace("00-", "ff-", 1),
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    PARENT.upper().replace("-01", "-zz"),
    "00-" + "a" * 8000,
    "\\u2028" + PARENT,
]


def test_without_the_extra_it_is_a_user_error(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert run(["serve", "--traces"]) == 2
    assert "is not installed; run pip install 'edgebrush[otel]'" in capsys.readouterr().err


def test_without_traces_nothing_is_recorded_and_no_header_is_sent(tmp_path):
    station = FakeStation()
    generate_all(tmp_path, PreferSlots(LARGE), {"large": station}, [make_task("k-0")])
    ((_, headers),) = station.requests
    assert "traceparent" not in headers
    assert traces.remote_parent({"traceparent": PARENT}) is None and traces.current_trace_id() == ""


@pytest.fixture
def spans():
    """The spans that end, in a list, while traces are on."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra [otel]")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces.record_with(provider)
    yield exporter.get_finished_spans
    traces.record_with(None)


def named(spans, name):
    return [span for span in spans() if span.name == name]


def children(spans, parent):
    """The names of a span's children, in the order of their start."""
    found = [span for span in spans() if span.parent and span.parent.span_id == parent.context.span_id]
    return [span.name for span in sorted(found, key=lambda span: (span.start_time, span.end_time))]


def generate_at_a_station(folder, monkeypatch, client_headers=None):
    """A client's request to an agent that has its image made by a real station, both in memory."""
    monkeypatch.setenv("TOKEN", TOKEN)
    station = make_station()

    async def generate():
        transport = httpx2.ASGITransport(station_app(station, TOKEN))
        agent = make_agent(
            folder, PreferSlots(LARGE), {"large": "http://10.0.0.1"}, transport=transport, token_env="TOKEN"
        )
        await agent.start()
        station.start()
        to_agent = httpx2.ASGITransport(agent_app(agent))
        async with httpx2.AsyncClient(transport=to_agent, base_url="http://localhost") as client:
            response = await client.post(IMAGES, json={"prompt": "circle"}, headers=client_headers)
        await agent.stop()
        await station.close()
        return response

    assert asyncio.run(generate()).json()["served_by"] == "large"


def test_a_task_is_one_trace_through_agent_and_station(tmp_path, monkeypatch, spans):
    generate_at_a_station(tmp_path, monkeypatch)
    (task,), (attempt,), (served,) = (named(spans, name) for name in ("task", "attempt", "serve"))
    assert task.parent is None
    assert {span.context.trace_id for span in spans()} == {task.context.trace_id}
    assert children(spans, task) == ["attempt"]
    assert sorted(children(spans, attempt)) == ["download", "generate", "serve", "upload", "wait"]
    assert children(spans, served) == ["wait", "denoise"]
    assert (attempt.kind.name, served.kind.name) == ("CLIENT", "SERVER")
    assert task.attributes["edgebrush.outcome"] == "image" and task.attributes["edgebrush.attempts"] == 1
    assert attempt.attributes["edgebrush.place"] == served.attributes["edgebrush.station"].replace("bs", "large")
    assert attempt.attributes["edgebrush.steps"] == served.attributes["edgebrush.steps"] == 2
    assert attempt.attributes["edgebrush.service_class"] == served.attributes["edgebrush.service_class"] == 1
    assert attempt.attributes["edgebrush.expected_s"] > 0 and served.attributes["edgebrush.energy_j"] > 0
    assert all(span.status.is_ok for span in spans())
    assert not any("circle" in str(dict(span.attributes)) for span in spans()), "prompts stay private"


def test_phases_follow_each_other_within_the_attempt(tmp_path, monkeypatch, spans):
    generate_at_a_station(tmp_path, monkeypatch)
    (attempt,) = named(spans, "attempt")
    phases = [
        span
        for name in ("upload", "wait", "generate", "download")
        for span in named(spans, name)
        if span.parent.span_id == attempt.context.span_id
    ]
    assert [phase.start_time for phase in phases[1:]] == [phase.end_time for phase in phases[:-1]]
    assert phases[0].start_time == attempt.start_time and phases[-1].end_time <= attempt.end_time + 20e6


def test_a_failover_is_a_failed_attempt_in_a_task_that_succeeds(tmp_path, spans):
    broken, good = FakeStation(), FakeStation()
    broken.status = 500
    tasks = [make_task("k-0"), make_task("k-1")]
    generate_all(tmp_path, PreferSlots(LARGE, SMALL), {"large": broken, "small": good}, tasks)
    assert len({span.context.trace_id for span in spans()}) == 2, "a trace per task"
    attempts = named(spans, "attempt")
    failed = [span for span in attempts if span.attributes["edgebrush.place"] == "large"]
    assert len(failed) == 2 and len(attempts) == 4
    assert all("status 500" in span.status.description and not span.status.is_ok for span in failed)
    assert all(span.status.is_ok for span in [*named(spans, "task"), *attempts] if span not in failed)
    sent = {headers["traceparent"].split("-")[2] for _, headers in broken.requests}
    assert sent == {f"{span.context.span_id:016x}" for span in failed}, "the station's parent is the attempt"


def test_the_own_device_and_a_task_without_image(tmp_path, spans):
    generate_all(tmp_path, PreferSlots(0), {}, [make_task("k-0"), make_task("k-1", prompt="cat")])
    (attempt,) = named(spans, "attempt")
    assert attempt.kind.name == "INTERNAL" and children(spans, attempt) == ["wait", "generate"]
    by_id = {span.attributes["edgebrush.task"]: span for span in named(spans, "task")}
    assert by_id["k-0"].status.is_ok and by_id["k-0"].attributes["edgebrush.place"] == "own"
    assert not by_id["k-1"].status.is_ok and by_id["k-1"].attributes["edgebrush.outcome"] == "invalid"


def test_spans_hold_no_prompts_where_errors_quote_them(tmp_path, spans):
    station = FakeStation()
    station.status, station.reply = 422, {"error": {"message": "class = 'my secret': unknown"}}
    task = make_task("k-0", prompt="my secret")
    generate_all(tmp_path, PreferSlots(LARGE), {"large": station}, [task])
    (attempt,) = named(spans, "attempt")
    assert attempt.status.description == "invalid" and "secret" not in "".join(span.to_json() for span in spans())


def test_load_requests_are_in_no_trace(tmp_path, spans):
    station = FakeStation()
    generate_all(tmp_path, PreferSlots(LARGE), {"large": station}, [make_task("k-0")])
    assert station.load_requests and {span.name for span in spans()} >= {"task"}
    assert len({span.context.trace_id for span in spans()}) == 1


def test_an_agents_clients_do_not_set_the_parent(tmp_path, monkeypatch, spans):
    """An agent has no token, so anybody could force its traces to be kept, or mix them up."""
    generate_at_a_station(tmp_path, monkeypatch, {"traceparent": PARENT, "tracestate": "a=b", "baggage": "c=d"})
    (task,) = named(spans, "task")
    assert task.parent is None and f"{task.context.trace_id:032x}" not in PARENT


def test_a_task_begins_a_trace_whatever_span_is_current(tmp_path, spans):
    """Such as a web framework's own span, whose parent any client may set."""

    async def generate():
        with traces.span("framework", parent=traces.remote_parent({"traceparent": PARENT})):
            async with running_agent(tmp_path, PreferSlots(0), {}) as agent:
                await agent.generate(make_task("k-0"))

    asyncio.run(generate())
    (task,) = named(spans, "task")
    assert task.parent is None and f"{task.context.trace_id:032x}" not in PARENT


def test_the_web_framework_has_no_traces_of_its_own(tmp_path, monkeypatch):
    """FastAPI's take the parent from any client, and hold bodies and errors."""
    api = pytest.importorskip("opentelemetry.trace")
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    agent = make_agent(tmp_path, PreferSlots(0), {})
    with in_memory(make_station()) as station, TestClient(agent_app(agent)) as client:
        assert station.get("/healthz").status_code == client.get("/healthz").status_code == 200
    assert isinstance(api.get_tracer_provider(), api.ProxyTracerProvider), "no provider was set"


def test_only_a_station_s_devices_set_the_parent(spans):
    with in_memory(make_station(), token=TOKEN, headers={"traceparent": PARENT}) as client:
        assert client.post(IMAGES, json=CIRCLE).status_code == 401
        assert not spans()
        assert client.post(IMAGES, json=CIRCLE, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    (served,) = named(spans, "serve")
    assert f"{served.context.trace_id:032x}-{served.parent.span_id:016x}" == PARENT[3:-3]


@pytest.mark.parametrize("header", INVALID_PARENTS)
def test_an_invalid_parent_counts_as_none(spans, header):
    with in_memory(make_station(), headers={"traceparent": header.encode()}) as client:
        assert client.post(IMAGES, json=CIRCLE).status_code == 200
    (served,) = named(spans, "serve")
    assert served.parent is None


def test_a_generation_that_fails_is_a_failed_span(spans):
    backend = RecordingBackend(Formula())
    backend.fail = "predict"
    with in_memory(make_station(backend=backend)) as client:
        assert client.post(IMAGES, json=CIRCLE).status_code == 503
    (served,) = named(spans, "serve")
    assert not served.status.is_ok and served.status.description


def test_json_records_name_their_trace(tmp_path, monkeypatch, spans, caplog):
    caplog.set_level(logging.INFO, "edgebrush")
    lines = []
    monkeypatch.setattr(caplog.handler, "emit", lambda record: lines.append(JsonFormatter().format(record)))
    generate_at_a_station(tmp_path, monkeypatch)
    ids = {record["trace_id"] for record in map(json.loads, lines) if record.get("status") == "image"}
    assert ids == {f"{named(spans, 'task')[0].context.trace_id:032x}"} and len(lines) >= 2


class Collector(BaseHTTPRequestHandler):
    """Keeps what an exporter sends."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, self.headers, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.mark.process
def test_spans_reach_a_collector_as_the_environment_says(monkeypatch):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra [otel]")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        server.received = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=lab")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=bs-9,site=roof")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        provider = traces.start_traces("edgebrush-station", "bs-1")
        try:
            with traces.span("serve", "server", steps=3):
                pass
        finally:
            traces.record_with(None)
            provider.shutdown()
            server.shutdown()
    ((path, headers, body),) = server.received
    assert path == "/v1/traces" and headers["x-tenant"] == "lab"
    (resource_spans,) = ExportTraceServiceRequest.FromString(body).resource_spans
    resource = {each.key: each.value.string_value for each in resource_spans.resource.attributes}
    assert resource["service.name"] == "edgebrush-station" and resource["site"] == "roof"
    assert resource["service.instance.id"] == "bs-9", "the environment has precedence"
    (span,) = resource_spans.scope_spans[0].spans
    assert span.name == "serve" and span.attributes[0].value.int_value == 3


@pytest.mark.process
def test_a_process_ends_soon_where_no_collector_answers(monkeypatch):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra [otel]")
    monkeypatch.setattr(traces, "EXPORT_TIMEOUT_S", 0.5)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "to be unset")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TIMEOUT")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    provider = traces.start_traces("edgebrush-station", "bs-1")
    with traces.span("serve"):
        pass
    traces.record_with(None)
    start = time.monotonic()
    provider.shutdown()
    assert time.monotonic() - start < 3
