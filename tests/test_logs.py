"""Logs: one line per record whatever it quotes, no terminal sequences, no secrets."""

import io
import logging
import subprocess
import sys

import httpx
import pytest

from edgebrush import logs
from edgebrush.agent.app import create_app
from edgebrush.cli.main import print_line
from edgebrush.logs import INDENT, MAX_LINE, LineFormatter, hide_in_logs, safe_line
from tests.support.agents import PreferSlots, make_agent
from tests.support.fakes import LOAD, FakeStation
from tests.support.processes import ENVIRONMENT
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


@pytest.fixture
def log():
    """A logger as `edgebrush` configures it, and its output."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(LineFormatter(logs.FORMAT))
    logger = logging.Logger("tests.logs")  # without a parent: pytest-xdist cannot send what pytest captures of it
    logger.addHandler(handler)
    return logger, output


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
    print_line("error: \x1b[2J http://u:s3cret@bs\nforged", "red")
    assert capsys.readouterr().err == "error: \\x1b[2J http://***@bs forged\n"


@pytest.mark.process
def test_the_command_line_logs_the_whole_process_in_this_form():
    code = r"""
import logging, threading
from edgebrush.cli.main import run
run(["--version"])
logging.getLogger("httpx").warning("a\n\x1b[2J b http://u:s3cret@bs/")
logging.getLogger("uvicorn.error").error("c\nd")
"""
    output = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    first, second = output.stderr.splitlines()
    assert first.endswith(r"WARNING httpx: a\n\x1b[2J b http://***@bs/") and second.endswith(
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
        transport = httpx.ASGITransport(create_app(agent))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for path in ("/v1/images/generations", "/v1/%0A%1b[2J" + FORGED):
                await client.post(path, json={"prompt": text}, headers={"user-agent": b"x\x1b[2J", "x-forged": b"\x9b"})
            response = await client.post("/v1/images/generations", json={"prompt": "circle"})
        await agent.stop()
        return response

    assert run_virtual(send()).status_code == 200
    lines = caplog.text.splitlines()
    assert any("large" in line for line in lines), "the BSs' faults are logged"
    assert all(line.isprintable() and "s3cret" not in line for line in lines)
