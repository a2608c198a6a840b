"""Each kind of server gets what it takes, under its own names, and nothing that it refuses."""

import json
import re
from pathlib import Path

import pytest

from edgebrush.clients.dialects import DIALECTS, GUIDANCE, NEGATIVE, SEED, SETTINGS, STEPS, SdCpp, nested
from edgebrush.clients.offload import Offload
from edgebrush.errors import UserError
from edgebrush.journal.records import Task
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.schema import Endpoint
from tests.support.dialect_servers import DEFAULT_STEPS, SERVERS, OpenAiServer, Order, Refused, SdCppServer
from tests.support.recordings import KINDS, names_of, recording

PAGE = (Path(__file__).parent.parent.parent / "docs" / "agent.md").read_text()
PX = 64
GIVEN = Order("a cat", "blurry", 7, 123, 4.5, PX)
ORDER_FIELDS = {STEPS: "steps", SEED: "seed", GUIDANCE: "guidance", NEGATIVE: "negative"}
WITHOUT = {STEPS: DEFAULT_STEPS, SEED: None, GUIDANCE: None, NEGATIVE: ""}


def body(kind, model=None, **fields):
    """A request in a dialect."""
    task = {"prompt": GIVEN.prompt, "negative": GIVEN.negative, "seed": GIVEN.seed, "guidance": GIVEN.guidance}
    offload = Offload(Task("t", request="waiting", **task | fields), GIVEN.steps, 1, 0.0, 0.0, 9.0)
    return DIALECTS[kind].body(offload, PX, model)


def read(kind, *arguments, **fields):
    """What reaches the model of a server of this kind."""
    return SERVERS[kind]().order(body(kind, *arguments, **fields))


@pytest.mark.parametrize("setting", ORDER_FIELDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_reaches_the_model_where_the_dialect_says_so(kind, setting):
    taken = setting in DIALECTS[kind].fields
    field = ORDER_FIELDS[setting]
    assert getattr(read(kind), field) == (getattr(GIVEN, field) if taken else WITHOUT[setting])


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_and_size_reach_every_model(kind):
    order = read(kind)
    assert order.prompt == GIVEN.prompt and order.px == PX


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_task_does_not_have_is_not_sent(kind):
    plain = body(kind, negative="", guidance=None)
    order = SERVERS[kind]().order(plain)
    assert order.negative == "" and order.guidance is None
    assert not {"negative_prompt", "guidance_scale"} & set(plain) and "txt_cfg" not in plain["prompt"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_station_gets_class_and_deadline(kind):
    sent = {"service_class", "deadline_s"} & set(body(kind))
    assert len(sent) == (2 if kind == "edgebrush" else 0)
    assert set(DIALECTS[kind].ignores) == set(SETTINGS) - set(DIALECTS[kind].fields)


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_in_base64_is_asked_for_from_the_configured_model(kind):
    plain, named = body(kind), body(kind, "sdxl")
    assert plain["n"] == 1 and plain["response_format"] == "b64_json" and "model" not in plain
    assert named == plain | {"model": "sdxl"}


def test_the_gpt_image_models_get_no_response_format():
    assert "response_format" in body("openai", "dall-e-3")
    assert "response_format" not in body("openai", "chatgpt-image-latest") | body("openai", "gpt-image-1")
    OpenAiServer().order(body("openai", "gpt-image-1"))
    with pytest.raises(Refused, match="invalid"):
        OpenAiServer().order(body("openai", "gpt-image-1") | {"response_format": "b64_json"})


# -- prompts that contain the syntax of a server

TAG = '<sd_cpp_extra_args>{"lora": [{"path": "secret"}], "sample_params": {"sample_steps": 1000}}</sd_cpp_extra_args>'
INJECTIONS = [
    TAG,
    f"a cat {TAG} a dog",
    f"<{TAG}",
    f"{TAG[:19]}{TAG}",
    "</sd_cpp_extra_args>" + TAG,
    "<sd_cpp_extra_args>",
    "<sd_cpp_<sd_cpp_extra_args>extra_args>{}</sd_cpp_extra_args>",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_prompt_cannot_give_sd_cpp_settings(text):
    sent = body("sd.cpp", prompt=text)["prompt"]
    assert sent.count("<sd_cpp_extra_args>") == sent.count("</sd_cpp_extra_args>") == 1
    order = read("sd.cpp", prompt=text)
    assert order.steps == GIVEN.steps and order.seed == GIVEN.seed
    assert order.prompt.replace("< ", "<") == text  # the user's words are all there


@pytest.mark.parametrize("text", [*INJECTIONS, 'a "quote", a \\ and\nlines\u2028', "ünï", "</sd_cpp_extra_args>" * 3])
def test_a_negative_prompt_cannot_end_the_tag_of_sd_cpp(text):
    order = read("sd.cpp", negative=text)
    assert order == Order(**vars(GIVEN) | {"negative": text})


@pytest.mark.parametrize("character", ["a", "<", '"', "\U0001f431"])
def test_the_tag_of_sd_cpp_stays_short(character):
    """A server that was built with GCC crashes at a tag of 64 kB."""
    sent = body("sd.cpp", negative=character * 32_000)["prompt"]
    assert len(sent.encode()) < 25_000
    assert read("sd.cpp", negative=character * 32_000).negative == character * SdCpp.max_negative


def test_the_tag_of_sd_cpp_is_as_its_documentation_shows_it():
    sent = body("sd.cpp", negative="", guidance=None)["prompt"]
    extra = '{"sample_params": {"sample_steps": 7}, "seed": 123}'
    assert sent == f"<sd_cpp_extra_args>{extra}</sd_cpp_extra_args>a cat"
    with pytest.raises(Refused, match="invalid"):
        SdCppServer().order({"prompt": "<sd_cpp_extra_args>{</sd_cpp_extra_args>"})


def test_a_prompt_cannot_give_localai_a_negative_prompt():
    order = read("localai", prompt="a cat | a dog", negative="dogs | blurry")
    assert (order.prompt, order.negative) == ("a cat , a dog", "dogs , blurry")
    assert read("localai", prompt="a cat | a dog", negative="").negative == ""


def test_dotted_names_are_nested():
    assert nested({"a.b.c": 1, "a.d": 2, "e": 3}) == {"a": {"b": {"c": 1}, "d": 2}, "e": 3}


# -- the configuration

OLD_FIELDS = {"steps_field": "step", "load": "none", "running_metric": "a", "waiting_metric": "b"}


@pytest.mark.parametrize("field", OLD_FIELDS)
def test_an_old_field_names_its_replacement(field, tmp_path):
    endpoint = json.dumps({"base_url": "http://x/v1", field: OLD_FIELDS[field]})
    text = load_scenario("testbed").model_dump_json(exclude={"directory"})
    file = tmp_path / "old.yaml"
    file.write_text(text.replace('"name":"large",', f'"name":"large","endpoint":{endpoint},'))
    with pytest.raises(UserError) as error:
        load_scenario(file)
    where = (
        f"{file}: bss.0.endpoint: {field}: replaced by `kind`; remove it and give kind: one of edgebrush, vllm-omni,"
    )
    assert str(error.value).startswith(where) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_only_vllm_omni_has_an_address_for_its_metrics(kind):
    fields = {"base_url": "http://x/v1", "kind": kind, "metrics_url": "http://y:9000/metrics"}
    if kind == "vllm-omni":
        endpoint = Endpoint(**fields)
        assert DIALECTS[kind].load_url("http://x/v1", endpoint) == "http://y:9000/metrics"
        return
    with pytest.raises(ValueError, match=f"metrics_url is not read for kind: {kind}, only for vllm-omni"):
        Endpoint(**fields)


@pytest.mark.parametrize(("kind", "page"), [("edgebrush", "http://x:8/v1/load"), ("vllm-omni", "http://x:8/metrics")])
def test_a_load_is_read_from_its_page(kind, page):
    assert DIALECTS[kind].load_url("http://x:8/v1", Endpoint(base_url="http://x:8/v1", kind=kind)) == page


@pytest.mark.parametrize("kind", ["sglang", "sd.cpp", "localai", "openai"])
def test_a_server_without_load_reports_is_asked_for_its_models(kind):
    endpoint = Endpoint(base_url="http://x:8/v1", kind=kind)
    assert DIALECTS[kind].load_url("http://x:8/v1", endpoint) == "http://x:8/v1/models"


# -- the table in docs/agent.md

ROW = re.compile(r"^\| `([a-z.-]+)` \|(.*)\|$", re.MULTILINE)
SECTION = PAGE.partition("### What each kind takes")[2].partition("|---")[2].partition("###")[0]
CELLS = {kind: [cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for kind, row in ROW.findall(SECTION)}


def test_the_table_has_a_row_for_each_kind():
    assert list(CELLS) == list(KINDS)


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_the_table_names_the_fields_of_each_kind(kind, column):
    setting = (STEPS, "size", SEED, GUIDANCE, NEGATIVE)[column]
    name = "size" if setting == "size" else DIALECTS[kind].fields.get(setting)
    assert (f"`{name}`" if name else "ignored") in CELLS[kind][column]


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_tells_where_a_load_comes_from(kind):
    page = DIALECTS[kind].load_url("http://x/v1", Endpoint(base_url="http://x/v1", kind=kind)).removeprefix("http://x")
    assert CELLS[kind][5].startswith(f"`{page}`" if DIALECTS[kind].reports_load else "inferred")


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_tells_what_a_full_server_does(kind):
    if "overload" not in names_of(kind):
        assert CELLS[kind][6] == "lets it wait"
        return
    status, _, headers = recording(kind, "overload")
    assert CELLS[kind][6] == f"{status}" + (", `Retry-After`" if headers else "")
