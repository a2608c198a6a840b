"""`edgebrush serve` as a process: OpenAI's own client gets its images, a stop is graceful, a mistake is one line."""

import base64
import io
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
from PIL import Image

import edgebrush
from edgebrush.cli.main import run

CERTIFY = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"


@contextmanager
def serving(*options, **environment):
    """The process, and the base URL that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgebrush.cli.main", "serve", "--port", "0", "--model", "light", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(edgebrush.__file__).parents[1]), **environment},
    )
    try:
        yield process, process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.wait(10)


def decoded(b64_json):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64_json))))


@pytest.mark.process
def test_openais_client_gets_its_images(tmp_path):
    (tmp_path / "token").write_text("s3cret\n")
    with serving("--token-file", str(tmp_path / "token"), "--name", "bs-7") as (_, url):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="s3cret", max_retries=0)
        assert [model.id for model in client.models.list()] == ["light"]
        extra = {"num_inference_steps": 4, "seed": 3, "service_class": 1, "deadline_s": 60.0}
        reply = client.images.generate(prompt="sneaker", model="light", n=2, size="28x28", extra_body=extra)
        images = [decoded(each.b64_json) for each in reply.data]
        assert [image.shape for image in images] == [(28, 28)] * 2 and images[0].std() > 20
        assert reply.steps_used == 4 and reply.served_by == "bs-7" and reply.energy_j > 0
        stream = client.images.generate(
            prompt="sneaker", stream=True, partial_images=1, extra_body={"num_inference_steps": 4, "seed": 3}
        )
        partial, completed = stream
        assert partial.type == "image_generation.partial_image" and partial.partial_image_index == 0
        assert completed.type == "image_generation.completed"
        assert np.abs(decoded(completed.b64_json).astype(int) - images[0]).max() <= 1
        with pytest.raises(openai.UnprocessableEntityError, match="class = 'cat'") as raised:
            client.images.generate(prompt="cat")
        assert raised.value.param == "prompt"
        with pytest.raises(openai.NotFoundError, match="model = 'sdxl'"):
            client.images.generate(prompt="bag", model="sdxl")
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="s3cre").images.generate(prompt="bag")


@pytest.mark.process
def test_sigterm_finishes_what_runs_hands_back_what_waits_and_exits_with_0():
    body = {"prompt": "bag", "num_inference_steps": 10}
    # A round of light at this speed takes 80 ms.
    with serving("--speed", "0.01", "--batch-limit", "1") as (process, url), httpx2.Client(base_url=url) as client:

        def ask():
            return client.post("/v1/images/generations", json=body, timeout=20)

        with ThreadPoolExecutor() as pool:
            answers = [pool.submit(ask) for _ in range(2)]
            while (load := client.get("/v1/load").json())["running"] != 1 or load["waiting"][0] != 1:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            done, handed_back = sorted((each.result() for each in answers), key=lambda answer: answer.status_code)
            assert (done.status_code, handed_back.status_code) == (200, 503)
            assert int(handed_back.headers["retry-after"]) > 0
        assert process.wait(10) == 0 and process.stderr.read() == ""


@pytest.mark.process
def test_ctrl_c_is_one_line():
    with serving() as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130 and process.stderr.read() == "interrupted\n"


@pytest.mark.process
def test_tls_and_options_from_a_file(tmp_path):
    cert, key, config = (tmp_path / name for name in ("cert.pem", "key.pem", "bs.yaml"))
    subprocess.run([*CERTIFY.split(), "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60)
    config.write_text(f"batch-limit: 3\nname: from-file\ntls-cert: {cert}\ntls-key: {key}\ntoken-env: BS_TOKEN\n")
    with serving("--config", str(config), "--name", "given", BS_TOKEN="s3cret") as (_, url):
        assert url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=cert)
        token = {"authorization": "Bearer s3cret"}
        load = httpx2.get(f"{url}/v1/load", verify=trusted, headers=token).json()
        assert (load["name"], load["batch_limit"]) == ("given", 3)
        body = {"prompt": "bag", "num_inference_steps": 1, "response_format": "url"}
        reply = httpx2.post(f"{url}/v1/images/generations", verify=trusted, headers=token, json=body).json()
        assert httpx2.get(reply["data"][0]["url"], verify=trusted).headers["content-type"] == "image/png"
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{url}/healthz")


@pytest.mark.process
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "huge"], "model = 'huge': neither a shipped model"),
        (["--profile", "none"], "profile 'none' not found"),
        (["--token-env", "NO_SUCH_VARIABLE"], "token-env = 'NO_SUCH_VARIABLE': holds no token"),
        (["--token-file", "/nowhere"], "token-file = '/nowhere': cannot be read"),
        (["--token-env", "X", "--token-file", "y"], "are both given; give one"),
        (["--tls-cert", "cert.pem"], "--tls-cert and --tls-key must be given together"),
        (["--tls-cert", "/nowhere", "--tls-key", "/nowhere"], "tls: /nowhere and /nowhere cannot be used"),
        (["--host", "192.0.2.1"], "port = 0: cannot be listened on at 192.0.2.1"),
        (["--allow-host", "http://bs:80"], "allow-host = 'http://bs:80': must be a name without scheme and port"),
        (["--allow-origin", "bs"], "allow-origin = 'bs': must be scheme://host[:port]"),
        (["--speed", "0"], "--speed"),
        (["--batch-limit", "0"], "--batch-limit"),
        (["--config", "/nowhere"], "/nowhere: cannot be read"),
    ],
)
def test_a_user_error_is_one_line(capsys, options, message):
    assert run(["serve", "--port", "0", "--model", "light", *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.process
def test_a_port_in_use_is_a_user_error(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", "--model", "light", "--port", str(port)]) == 2
    assert f"port = {port}: cannot be listened on at 127.0.0.1 (Address already in use)" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["batch-limt: 4", "- 4", "batch-limit: [", "batch-limit: many"])
def test_an_unusable_config_is_a_user_error(capsys, tmp_path, text):
    (tmp_path / "bs.yaml").write_text(text)
    assert run(["serve", "--port", "0", "--config", str(tmp_path / "bs.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_has_examples(capsys):
    assert run(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    assert "curl" in out and "127.0.0.1" in out and "--token-env" in out
