"""TLS with a private CA, tokens, and what the log states about a BS that cannot be reached."""

import asyncio
import base64
import logging
import socket
import subprocess

import httpx2
import pytest

from edgebrush.agent.endpoints import build_stations
from edgebrush.agent.observer import Observer
from edgebrush.clients.client import ImagesClient
from edgebrush.errors import UserError
from edgebrush.scenario.schema import Endpoint
from tests.support.agents import TESTBED, PreferSlots, running_agent
from tests.support.fakes import FakeNetwork, FakeStation
from tests.support.processes import edgebrush_process
from tests.support.virtual_time import run_virtual

CERTIFY = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=station -addext subjectAltName=IP:127.0.0.1"
TOKEN = "open-sesame-123"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of its own CA, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run([*CERTIFY.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def station(certificate):
    """The address of a station that speaks TLS only and wants a token."""
    cert, key = map(str, certificate)
    options = ("--port", "0", "--tls-cert", cert, "--tls-key", key, "--token-env", "BS_TOKEN")
    with edgebrush_process("serve", "--name", "large", *options, BS_TOKEN=TOKEN) as (_, url):
        yield url


@pytest.mark.process
def test_an_image_is_made_at_a_station_with_tls_and_a_token(tmp_path, station, certificate):
    access = ("--station", f"large={station}", "--station-token-env", "MY_TOKEN", "--ca-file", str(certificate[0]))
    options = ("--policy", "nearest-bs", "--port", "0", "--journal", str(tmp_path), *access)
    with edgebrush_process("ue", "testbed", *options, MY_TOKEN=TOKEN) as (_, url):
        reply = httpx2.post(f"{url}/v1/images/generations", json={"prompt": "sneaker"}, timeout=60).json()
    assert reply["served_by"] == "large" and base64.b64decode(reply["data"][0]["b64_json"]).startswith(b"\x89PNG")


def poll(url, count=4, **access):
    """Request the load of a station some times over real sockets."""

    async def run():
        [remote] = build_stations(Observer(TESTBED, 0, 1.0), {"large": url}, **access)
        for _ in range(count):
            await remote.poll_load()
        await remote.close()
        return remote

    return asyncio.run(run())


@pytest.mark.process
def test_a_station_that_is_never_reached_is_told_once_with_the_fix(station, certificate, monkeypatch, caplog):
    monkeypatch.setenv("WRONG_TOKEN", "guess")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    cert = certificate[0]
    for url, access, reason in [
        (station, {}, "its certificate is not trusted (self-signed certificate); give its CA by --ca-file"),
        (
            station.replace("127.0.0.1", "localhost"),
            {"ca_file": cert},
            "its certificate is for another name (Hostname mis",
        ),
        (station, {"ca_file": cert}, "status 401 to its load request; give its token by --station-token-env"),
        (station, {"ca_file": cert, "token_env": "WRONG_TOKEN"}, "status 401 to its load request; give its token"),
        (station.replace("https", "http"), {}, "the connection ended without an answer"),
        (f"http://127.0.0.1:{port}", {}, "connection refused; check that it runs, and its port"),
        ("http://no-such-name.invalid", {}, "its name is unknown"),
    ]:
        caplog.clear()
        assert poll(url, **access).unavailable
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 1 and lines[0].startswith(f"large at {url}/v1 is not used: {reason}")


@pytest.mark.process
def test_the_files_of_openssl_are_trusted(station, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("BS_TOKEN", TOKEN)
    assert not poll(station, token_env="BS_TOKEN").unavailable


def test_a_station_that_is_reached_at_last_is_told(tmp_path, caplog):
    large = FakeStation()
    large.reachable = False

    async def run():
        async with running_agent(tmp_path, PreferSlots(0), {"large": large}):
            await asyncio.sleep(20.0)
            large.reachable = True
            await asyncio.sleep(10.0)

    run_virtual(run())
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "large at http://large/v1 is not used: ConnectError: connection refused",
        "large at http://large/v1 is used now",
    ]


def test_a_station_that_does_not_answer_to_its_name_is_told_with_the_fix(caplog):
    large = FakeStation()
    large.load_status = 421

    async def run():
        network = FakeNetwork({"large": large})
        clock = asyncio.get_running_loop().time
        [remote] = build_stations(Observer(TESTBED, 0, 1.0), {"large": "http://large"}, network, clock)
        for _ in range(4):
            await remote.poll_load()

    run_virtual(run())
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith("status 421 to its load request; start it with --allow-host and the name in its address")


def test_a_password_in_an_address_is_sent_and_never_logged(caplog):
    """httpx2 itself logs addresses at the level INFO."""
    caplog.set_level(logging.DEBUG)
    large = FakeStation()
    large.load_status = 500
    url = "http://me:hush-hush@large"

    async def run():
        network = FakeNetwork({"large": large})
        [remote] = build_stations(Observer(TESTBED, 0, 1.0), {"large": url}, network, asyncio.get_running_loop().time)
        for _ in range(4):
            await remote.poll_load()
        await remote.client.http.get(remote.client.load_url)
        return remote.client.authorization

    assert run_virtual(run()) == "Basic " + base64.b64encode(b"me:hush-hush").decode()
    assert "large at http://large/v1 is not used: status 500" in caplog.text and "hush" not in caplog.text
    with pytest.raises(UserError) as error:
        build_stations(Observer(TESTBED, 0, 1.0), {"large": "ftp://me:hush-hush@large"})
    assert "hush" not in str(error.value)


def test_the_scenarios_key_comes_before_the_option(monkeypatch):
    monkeypatch.setenv("SCENARIO_KEY", "scenario-key")
    monkeypatch.setenv("OPTION_KEY", "option-key")
    endpoint = Endpoint(base_url="http://a/v1", api_key_env="SCENARIO_KEY")
    bss = (TESTBED.bss[0].model_copy(update={"endpoint": endpoint}), TESTBED.bss[1])
    observer = Observer(TESTBED.model_copy(update={"bss": bss}), 0, 1.0)
    stations = build_stations(observer, {"large": "http://b", "small": "http://c"}, token_env="OPTION_KEY")
    assert [each.client.authorization for each in stations] == ["Bearer scenario-key", "Bearer option-key"]
    assert stations[0].client.base_url == "http://b/v1"


@pytest.mark.parametrize(
    ("metrics_url", "is_sent"), [(None, True), ("http://large/m", True), ("http://other/m", False)]
)
def test_a_key_is_not_sent_to_another_host(metrics_url, is_sent):
    endpoint = Endpoint(base_url="http://large/v1", kind="vllm-omni", metrics_url=metrics_url)
    client = ImagesClient(endpoint, 28, "key")
    assert client.authorization == "Bearer key" and (client.load_authorization == "Bearer key") == is_sent


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_an_error(tmp_path, content):
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(UserError, match=r"ca-file = .*: cannot be used: .*; give a PEM file with CA certificates"):
        build_stations(Observer(TESTBED, 0, 1.0), {}, ca_file=file)
