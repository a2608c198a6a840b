"""`edgebrush ue --check`: the table of what each station does, what to do about it, and the exit code."""

import json
import re

import pytest

from edgebrush.cli.main import run
from edgebrush.cli.ue_check import cells_of, notes_of
from edgebrush.clients.check import ServerCheck, check_server
from edgebrush.scenario.schema import Endpoint
from edgebrush.serving.app import create_app
from tests.support.dialect_servers import SERVERS
from tests.support.fakes import FakeNetwork, fake_server
from tests.support.recordings import KINDS
from tests.support.serving import make_station, serve_app
from tests.support.virtual_time import run_virtual


def checked(server, kind=None):
    async def ask():
        endpoint = Endpoint(base_url="http://large/v1", kind=kind or server.kind)
        return await check_server(endpoint, 32, (2, 8), transport=FakeNetwork({"large": server}))

    return run_virtual(ask())


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_and_notes_for_each_kind(kind):
    found = checked(SERVERS[kind](step_s=0.01))
    _, usable, _, load, steps, seed, size, *_ = cells_of(found)
    assert (usable, size) == ("yes", "32x32")
    assert load == ("0" if kind in ("edgebrush", "vllm-omni") else "inferred")
    assert (steps, seed) == (("yes", "yes") if kind != "openai" else ("ignored", "not sent"))
    notes = list(notes_of(found))
    lost = "steps are ignored (it takes no steps): the third decision is lost there"
    not_taken = {"localai": "guidance", "openai": "seed, guidance, negative prompt"}.get(kind)
    assert notes == ([lost] if kind == "openai" else []) + ([f"it does not take: {not_taken}"] if not_taken else [])


def test_a_server_that_was_not_reached_has_an_empty_row():
    found = ServerCheck("http://x/v1", "sglang", problem="connection refused; check that it runs, and its port")
    assert cells_of(found) == ["sglang", "no", *[""] * 8]
    assert list(notes_of(found)) == ["cannot be used: connection refused; check that it runs, and its port"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["testbed", "--check"], "testbed: no base station has an address; give --station NAME=URL, or an endpoint"),
        (["testbed", "--check", "--station", "huge=http://x"], "station = 'huge': testbed has large, small"),
        (["testbed", "--check", "--station", "large=x"], "not an address; give http://HOST:PORT"),
        (["testbed", "--check-file", "checks.csv"], "check-file is given without --check; add it"),
        (["testbed", "--check", "--check-file", "checks.txt"], "checks.txt: give a name that ends in .csv or .json"),
    ],
)
def test_a_user_error_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["ue", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.process
def test_stations_over_sockets(capsys, tmp_path, monkeypatch):
    """A station, a server that always sends the same picture, and then a station that does not listen any more."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    station = make_station(speed=1.0)
    with serve_app(create_app(station, None), on_stop=lambda: station.stop(1.0)) as (_, url), fake_server() as fake:
        both = ["--station", f"large={url}", "--station", f"small={fake.url}"]
        prompt = ["--check-prompt", "circle"]
        assert run(["ue", "--check", "testbed", *both[:2], *prompt, "--check-file", "checks.json"]) == 0
        alone = capsys.readouterr().out
        assert run(["ue", "testbed", "--check", *both, *prompt]) == 0
        together = capsys.readouterr().out
    assert re.search(r"^large +edgebrush +yes +[\d.]+ +0 +yes +yes +28x28 +[\d.]+ +[\d.]+ +[\d.]+$", alone, re.M)
    assert "1 rows: checks.json" in alone
    [row] = json.loads((tmp_path / "checks.json").read_text())
    assert row["station"] == "large" and row["usable"] and row["few_steps"] == 1 and row["bytes_per_s"] > 0
    assert "small: steps are ignored (the pictures are the same): the third decision is lost there" in together
    assert run(["ue", "testbed", "--check", "--station", f"large={url}"]) == 1
    assert "large: cannot be used: connection refused; check that it runs, and its port" in capsys.readouterr().out
