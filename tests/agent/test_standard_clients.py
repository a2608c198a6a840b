"""OpenAI's Python client and its documented curl command, at a station and at an agent: only the address is changed."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import pytest
from PIL import Image

from edgebrush.agent.app import create_app
from edgebrush.api.schema import MAX_PROMPT, OpenAiFields
from tests.support.agents import PreferSlots, make_agent
from tests.support.models import write_model
from tests.support.processes import edgebrush_process
from tests.support.serving import Gate, make_station, serve_app, served, until

pytestmark = pytest.mark.process
EXAMPLE = Path(__file__).parents[2] / "examples" / "openai_client.py"
PROMPT = "A cute baby sea otter"
CURL = """curl https://api.openai.com/v1/images/generations \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer $OPENAI_API_KEY" \\
  -d '{
    "model": "gpt-image-1.5",
    "prompt": "A cute baby sea otter",
    "n": 1,
    "size": "1024x1024"
  }'
"""  # from OpenAI's API reference, "Create image"


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    """The addresses of a station and of an agent, two processes, whose models know the prompt of OpenAI's examples."""
    folder = tmp_path_factory.mktemp("otter")
    model = write_model(folder / "model")
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "name": "otter", "classes": [PROMPT, "circle", "square"]}))
    serve = ["serve", "--port", "0", "--model", str(model), "--profile", "fashion-light-cpu"]
    agent = ["ue", "testbed", "--port", "0", "--model", str(model), "--journal", str(folder / "ue")]
    with (
        edgebrush_process(*serve) as (_, station_url),
        edgebrush_process(*agent, "--station", f"large={station_url}") as (_, agent_url),
    ):
        yield {"station": station_url, "agent": agent_url}


@pytest.fixture(scope="module", params=["station", "agent"])
def url(urls, request):
    return urls[request.param]


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def opened(image):
    return Image.open(io.BytesIO(base64.b64decode(image.b64_json)))


def test_openais_curl_command(url):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = CURL.replace("https://api.openai.com", url)
    environment = {**os.environ, "OPENAI_API_KEY": "none"}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment, timeout=20)
    reply = json.loads(done.stdout)
    [image] = reply["data"]
    assert Image.open(io.BytesIO(base64.b64decode(image["b64_json"]))).format == "PNG"
    assert reply["ignored"] == ["model", "size"] and reply["size"] == "28x28"


def test_every_documented_field(client):
    reply = client.images.generate(
        prompt=PROMPT,
        background="opaque",
        complexity="low",
        frame_count=None,
        frame_duration_ms=None,
        model="gpt-image-2.5-flare",
        moderation="low",
        n=2,
        output_compression=50,
        output_format="jpeg",
        partial_images=0,
        quality="hd",
        response_format="b64_json",
        safety_identifier="me",
        size="1536x1024",
        stream=False,
        style="vivid",
        svg=None,
        user="me",
    )
    assert [opened(each).format for each in reply.data] == ["JPEG"] * 2
    assert (reply.output_format, reply.size, reply.background) == ("jpeg", "28x28", "opaque")
    ignored = ["complexity", "model", "moderation", "quality", "safety_identifier", "size", "style", "user"]
    assert reply.ignored == ignored


def test_no_documented_field_is_missing():
    documented = openai.types.image_generate_params.ImageGenerateParamsBase.__annotations__.keys() | {"stream"}
    assert OpenAiFields.model_fields.keys() == documented


@pytest.mark.parametrize("partial_images", [None, 0, 2])
def test_streams(client, partial_images):
    wanted = {} if partial_images is None else {"partial_images": partial_images}
    *partial, last = client.images.generate(prompt=PROMPT, stream=True, output_format="webp", **wanted)
    assert last.type == "image_generation.completed" and opened(last).format == "WEBP"
    assert (last.size, last.background, last.quality, last.usage.total_tokens) == ("28x28", "opaque", "auto", 0)
    assert {each.type for each in partial} <= {"image_generation.partial_image"}
    if last.served_by in ("station", "own"):  # an image of a BS reaches the agent whole
        assert [each.partial_image_index for each in partial] == list(range(partial_images or 0))


def test_files(client):
    reply = client.images.generate(prompt=PROMPT, n=10, response_format="url", output_format="webp")
    file = httpx2.get(reply.data[9].url)
    assert file.headers["content-type"] == "image/webp" and Image.open(io.BytesIO(file.content)).format == "WEBP"
    assert len({each.url for each in reply.data}) == 10 and reply.data[0].b64_json is None


def test_models(client):
    [model] = client.models.list()
    assert client.models.retrieve(model.id) == model
    assert client.images.generate(prompt=PROMPT, model=model.id, size="auto").ignored == []
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("sdxl")


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"background": "transparent"}, openai.BadRequestError, "background"),
        ({"output_format": "svg"}, openai.BadRequestError, "output_format"),
        ({"size": "1x1"}, openai.BadRequestError, "size"),
        ({"n": 11}, openai.BadRequestError, "n"),
        ({"extra_body": {"negativ_prompt": "x"}}, openai.BadRequestError, "negativ_prompt"),
        ({"prompt": ""}, openai.BadRequestError, "prompt"),
        ({"prompt": "Sneaker"}, openai.UnprocessableEntityError, "prompt"),
        ({"prompt": "🦦" * MAX_PROMPT}, openai.UnprocessableEntityError, "prompt"),
        ({"prompt": "Sneaker", "stream": True}, openai.UnprocessableEntityError, "prompt"),
        ({"model": "sdxl"}, openai.NotFoundError, "model"),
    ],
)
def test_mistakes_of_the_client(client, fields, error, param):
    with pytest.raises(error) as raised:
        client.images.generate(**{"prompt": PROMPT, **fields})
    assert raised.value.param == param and raised.value.type == "invalid_request_error"


def test_the_example(urls, tmp_path):
    command = [sys.executable, EXAMPLE, urls["agent"], PROMPT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "models: edgebrush" in done.stdout and "background: " in done.stdout
    assert Image.open(tmp_path / "image-1.webp").format == "WEBP"


def raises_rate_limit(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.RateLimitError) as raised:
        client.images.generate(prompt="circle")
    assert int(raised.value.response.headers["retry-after"]) > 0 and raised.value.type == "rate_limit_error"


def test_overload_of_a_station_is_a_rate_limit():
    gate = Gate()
    station = make_station(backend=gate, batch=1, queue=1)
    with served(station) as client, ThreadPoolExecutor() as pool:
        for _ in range(2):
            pool.submit(client.post, "/v1/images/generations", json={"prompt": "circle"})
            until(lambda: gate.blocked)
        until(lambda: station.engine.waiting)
        raises_rate_limit(str(client.base_url))
        gate.open()


def test_overload_of_an_agent_is_a_rate_limit(tmp_path):
    gate = Gate()
    agent = make_agent(tmp_path, PreferSlots(0), {}, gate)
    agent.device.queue_limit = 0
    with serve_app(create_app(agent)) as (_, url), ThreadPoolExecutor() as pool:
        pool.submit(httpx2.post, f"{url}/v1/images/generations", json={"prompt": "circle"}, timeout=20)
        until(lambda: gate.blocked)
        raises_rate_limit(url)
        gate.open()
