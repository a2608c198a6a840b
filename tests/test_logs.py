"""Logs: one line per record whatever it quotes, no terminal sequences, no secrets."""

import io
import json
import logging
import subprocess
import sys

import httpx2
import pytest

from edgebrush import logs
from edgebrush.agent.app import create_app
from edgebrush.cli import messages
from edgebrush.cli.messages import print_line
from edgebrush.logs import FIELDS, INDENT, MAX_LINE, JsonFormatter, LineFormatter, hide_in_logs, safe_line
from tests.support.agents import PreferSlots, generate_all, make_agent, make_task
from tests.support.fakes import LOAD, FakeStation
from tests.support.processes import ENVIRONMENT
from tests.support.serving import CIRCLE, IMAGES, in_memory, make_station
from tests.support.virtual_time import run_virtual

FORGED = "2026-11-26 12:00:00,000 ERROR root: forged"
INJECTIONS = {
    "path": f"GET /v1/load%0A\n{FORGED}",
    "header": f"user-agent: x\r\n{FORGED}",
    "prompt": f"circle\x0b\x0c\x85\u2028\u2029{FORGED}",
    "station name": f"bs\r{FORGED}",
    "error body": f'{{"error": "\n\n{FORGED}"}}',
    "terminal": "\x1b[2J\x1b[31mred\x1b]0;title\x07\x9b1m\x7f",
    "direction of text": "abc\u202egnp.exe\u2066",
    "surrogates and nulls": "\ud800\x00",
}


def logger_with(formatter):
    """A logger with a formatter, and its output."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(formatter)
    logger = logging.Logger("tests.logs")  # without a parent: pytest-xdist cannot send what pytest captures of it
    logger.addHandler(handler)
    return logger, output


@pytest.fixture
def log():
    """A logger as `edgebrush` configures it, and its output."""
    return logger_with(LineFormatter(logs.FORMAT))


@pytest.fixture
def json_log():
    """A logger as `edgebrush ue --log-format json` configures it, and its output."""
    return logger_with(JsonFormatter())


@pytest.mark.parametrize("name", INJECTIONS)
def test_what_comes_from_outside_stays_in_its_line(log, name):
    logger, output = log
    logger.warning("%s: cannot read its load: %s", INJECTIONS[name], ValueError(INJECTIONS[name]))
    logger.warning(INJECTIONS[name])  # as a format, too
    lines = output.getvalue().splitlines()
    assert len(lines) == 2 and all(line.isprintable() for line in lines)
    output.getvalue().encode()


@pytest.mark.parametrize("name", INJECTIONS)
def test_lines_of_a_traceback_do_not_pass_for_records(log, name):
    logger, output = log
    try:
        raise ValueError(INJECTIONS[name])
    except ValueError:
        logger.exception("task failed", stack_info=True)
    first, *others = output.getvalue().splitlines()
    assert first.endswith("ERROR tests.logs: task failed")
    assert all(line.startswith(INDENT) and line.isprintable() for line in others)


def texts_in(value):
    """All texts in a JSON value."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts_in(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", INJECTIONS)
def test_json_records_are_one_object_in_one_line_whatever_they_quote(json_log, name):
    logger, output = json_log
    text = INJECTIONS[name]
    logger.warning("%s: cannot read its load", text, extra=dict.fromkeys(FIELDS, text))
    logger.warning(f'{text}", "level": "ERROR')
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("task failed", stack_info=True)
    lines = output.getvalue().splitlines()
    assert len(lines) == 3 and all(line.isascii() and line.isprintable() for line in lines)
    quoting, forging, failing = map(json.loads, lines)
    assert set(quoting) == {"time", "level", "logger", "message", *FIELDS} and forging["level"] == "WARNING"
    assert all(text.isprintable() for each in (quoting, forging) for text in texts_in(each))
    for name in ("exception", "stack"):
        assert all(line.startswith(INDENT) and line.isprintable() for line in failing.pop(name).splitlines())
    assert failing.pop("message") == "task failed"


def test_json_records_have_the_tasks_fields(json_log):
    logger, output = json_log
    logger.warning("task %s: done", "k-0", extra={"task": "k-0", "seconds": 0.25, "reason": None, "unknown": object()})
    record = json.loads(output.getvalue())
    assert record.pop("time").endswith("+00:00")
    assert record == {
        "level": "WARNING",
        "logger": "tests.logs",
        "message": "task k-0: done",
        "task": "k-0",
        "seconds": 0.25,
    }


def test_json_records_hold_no_secrets(json_log, monkeypatch):
    monkeypatch.setattr(logs, "_own_secrets", {"open-sesame"})
    logger, output = json_log
    try:
        raise ValueError("http://u:s3cret@bs open-sesame")
    except ValueError:
        logger.exception("Bearer s3cret-of-many-letters", extra={"reason": "token=s3cret", "station": "open-sesame"})
    assert "s3cret" not in output.getvalue() and "sesame" not in output.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "http://user:s3cret@bs.example/v1/load",
        "https://s3cret@bs.example",
        "GET http://bs.example/v1/load?key=s3cret&x=1 failed",
        "GET /v1/load?s3cret HTTP/1.1",
        "Authorization: Bearer s3cret",
        "authorization: Basic s3cret==",
        "{'Authorization': 'Bearer s3cret', 'x': 1}",
        "bytearray(b'Authorization : Bearer s3cret')",
        "the header was bearer s3cret-of-many-letters",
        "token=s3cret; try again",
        '{"api_key": "s3cret"}',
        "x-api-key=s3cret",
        "password=s3cret&user=x",
    ],
)
def test_passwords_tokens_and_queries_are_not_logged(log, text):
    logger, output = log
    logger.error("%s", text)
    logger.error(text.replace("%", "%%"))
    assert output.getvalue() and "s3cret" not in output.getvalue() and "***" in output.getvalue()


def test_addresses_and_sentences_stay_readable():
    for text in (
        "large: cannot read its load from http://10.0.0.5:8000/v1/load: All connection attempts failed",
        "token-env = 'TOKEN': holds no token (printable ASCII); set it",
        "a valid token is needed; what now?",
        "caf\u00e9 \u753b\u50cf",
    ):
        assert safe_line(text) == text


def test_a_processes_own_tokens_are_hidden_wherever_they_appear(monkeypatch):
    monkeypatch.setattr(logs, "_own_secrets", set())
    hide_in_logs("open-sesame")
    hide_in_logs("")
    hide_in_logs("in")
    assert safe_line("the station answered: invalid key open-sesame given") == (
        "the station answered: invalid key *** given"
    )


def test_long_lines_are_cut():
    assert len(safe_line("x" * 100_000)) == MAX_LINE and safe_line("x" * 100_000).endswith("...")


def test_errors_on_the_terminal_are_one_safe_line(capsys):
    print_line("error: \x1b[2J http://u:s3cret@bs\nforged", logging.ERROR)
    assert capsys.readouterr().err == "error: \\x1b[2J http://***@bs forged\n"


def test_messages_are_records_where_logs_are_json(monkeypatch, json_log):
    logger, output = json_log
    monkeypatch.setattr(messages, "log", logger)
    monkeypatch.setattr(messages, "logs_are_json", lambda: True)
    print_line("error: \x1b[2J http://u:s3cret@bs\nforged", logging.ERROR)
    record = json.loads(output.getvalue())
    assert (record["level"], record["message"]) == ("ERROR", "error: \\x1b[2J http://***@bs forged")


def test_only_what_was_configured_here_is_changed(monkeypatch):
    """A program that uses edgebrush, and pytest, have handlers of their own."""
    root, ours, other = logging.Logger("root"), logging.NullHandler(), logging.NullHandler()
    ours.setFormatter(LineFormatter(logs.FORMAT))
    root.handlers = [ours, other]
    monkeypatch.setattr(logging, "getLogger", lambda name=None: root)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    logs.configure_logging("json", "info")
    assert isinstance(ours.formatter, JsonFormatter) and other.formatter is None and root.level == logging.INFO
    assert logs.logs_are_json()
    logs.configure_logging()
    assert not logs.logs_are_json() and root.level == logging.WARNING


@pytest.mark.process
def test_the_command_line_logs_the_whole_process_in_this_form():
    code = r"""
import logging, threading
from edgebrush.cli.main import run
run(["--version"])
logging.getLogger("httpx2").warning("a\n\x1b[2J b http://u:s3cret@bs/")
logging.getLogger("uvicorn.error").error("c\nd")
"""
    output = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    first, second = output.stderr.splitlines()
    assert first.endswith(r"WARNING httpx2: a\n\x1b[2J b http://***@bs/") and second.endswith(
        r"ERROR uvicorn.error: c\nd"
    )


def test_what_clients_and_other_servers_send_an_agent_stays_in_its_line(tmp_path, caplog):
    """Hostile paths, headers and prompts of a client; error bodies, reasons and types of two BSs."""
    caplog.handler.setFormatter(LineFormatter(logs.FORMAT))
    caplog.set_level(logging.DEBUG)
    text = "\n".join(INJECTIONS.values()).encode("utf-8", "backslashreplace").decode() + "http://u:s3cret@bs"
    hostile, broken = FakeStation(), FakeStation()
    hostile.status, hostile.reply, hostile.load = 500, {"error": {"message": text, "type": text}}, {"name": text}
    broken.reply, broken.load = text.encode(), {**LOAD, "running": text}
    agent = make_agent(tmp_path, PreferSlots(1, 2, 0), {"large": hostile, "small": broken})

    async def send():
        await agent.start()
        transport = httpx2.ASGITransport(create_app(agent))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for path in ("/v1/images/generations", "/v1/%0A%1b[2J" + FORGED):
                await client.post(path, json={"prompt": text}, headers={"user-agent": b"x\x1b[2J", "x-forged": b"\x9b"})
            response = await client.post("/v1/images/generations", json={"prompt": "circle"})
        await agent.stop()
        return response

    assert run_virtual(send()).status_code == 200
    lines = caplog.text.splitlines()
    assert any("large" in line for line in lines), "the BSs' faults are logged"
    assert all(line.isprintable() and "s3cret" not in line for line in lines)


def test_an_agent_logs_failovers_and_ends_with_the_tasks_fields(tmp_path, caplog):
    caplog.set_level(logging.INFO, "edgebrush.agent")
    broken, good = FakeStation(), FakeStation()
    broken.status, broken.reply = 500, {"error": {"message": "out of memory"}}
    stations = {"large": broken, "small": good}
    (result,) = generate_all(tmp_path, PreferSlots(1, 2), stations, [make_task("k-0")])
    assert result.place == "small"
    records = [vars(each) for each in caplog.records if getattr(each, "task", "") == "k-0"]
    failover, end = records
    assert (failover["place"], failover["status"]) == ("large", "failed") and "out of memory" in failover["reason"]
    assert (end["place"], end["status"]) == ("small", "image") and end["seconds"] >= 0


def test_a_station_logs_ends_and_refusals_with_their_fields(caplog):
    caplog.set_level(logging.INFO, "edgebrush")
    with in_memory(make_station(), token="open-sesame") as client:
        client.post(IMAGES, json=CIRCLE)
        client.headers["authorization"] = "Bearer open-sesame"
        client.post(IMAGES, json=CIRCLE)
        client.post(IMAGES, json={**CIRCLE, "prompt": "cat"})
    without_token, end, refused = [vars(each) for each in caplog.records if each.name.startswith("edgebrush")]
    assert (without_token["status"], without_token["reason"]) == (401, "invalid_api_key")
    assert (end["station"], end["status"], end["reason"]) == ("bs", "image", None) and end["task"].startswith("img-")
    assert (refused["status"], refused["reason"]) == (422, "invalid_value")


def test_prompts_are_not_logged(tmp_path, caplog):
    """Error messages quote them: the station's, and the agent's own."""
    caplog.set_level(logging.INFO, "edgebrush")
    station, full = FakeStation(), FakeStation()
    station.status, station.reply = 422, {"error": {"message": "class = 'my secret': unknown"}}
    full.status = 429
    task = make_task("k-0", prompt="my secret")
    generate_all(tmp_path, PreferSlots(1, 2), {"large": station, "small": full}, [task])
    with in_memory(make_station()) as client:
        assert "my secret" in client.post(IMAGES, json={**CIRCLE, "prompt": "my secret"}).text
        assert "my secret" in client.post(IMAGES, json={**CIRCLE, "negative_prompt": ["my secret"]}).text
    assert len(caplog.records) >= 4 and "my secret" not in str([vars(each) for each in caplog.records])
