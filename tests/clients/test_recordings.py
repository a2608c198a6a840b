"""Every recorded answer of every server is read as what it is: an image, a load, an error, an overload."""

import pytest

from edgebrush.clients.dialects import DIALECTS
from edgebrush.clients.replies import StationError, error_of, parse_reply
from tests.support.recordings import KINDS, names_of, recording, response

MEAN_STEPS = 10.0
ANSWERS = [(kind, name) for kind in KINDS for name in names_of(kind)]
UNUSABLE = [("sd.cpp", "no-image"), ("openai", "overload-with-200")]  # status 200, but no image


def answers(prefix):
    return [(kind, name) for kind, name in ANSWERS if name.startswith(prefix) and (kind, name) not in UNUSABLE]


def load_of(kind, name):
    _, body, _ = recording(kind, name)
    load = DIALECTS[kind].read_load(body, 5.0, 2, MEAN_STEPS)
    return load.running, sum(load.waiting), load.connections


def test_there_are_answers_of_every_kind():
    for kind in KINDS:
        assert {"image", "models", "invalid"} <= set(names_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_read(kind):
    reply = parse_reply(response(kind, "image")[1])
    assert reply.image.startswith(b"\x89PNG")
    assert reply.steps == (2 if kind == "edgebrush" else 0)
    assert (reply.compute_s > 0) == (kind in ("edgebrush", "sglang"))  # which state it


@pytest.mark.parametrize(("kind", "name"), UNUSABLE)
def test_a_good_status_without_an_image_is_a_failure(kind, name):
    answer, body = response(kind, name)
    assert answer.is_success
    with pytest.raises(StationError, match=r"no image under data\[0\]") as error:
        parse_reply(body)
    assert error.value.is_fault


@pytest.mark.parametrize(("kind", "name"), answers("invalid"))
def test_an_invalid_request_is_not_the_servers_fault(kind, name):
    error = error_of(*response(kind, name))
    assert error.kind == "invalid" and not error.is_fault


@pytest.mark.parametrize(("kind", "name"), [*answers("failed"), *answers("unauthorized")])
def test_a_failure_is_the_servers_fault(kind, name):
    error = error_of(*response(kind, name))
    assert error.kind == "failed" and error.is_fault


@pytest.mark.parametrize(("kind", "name"), [*answers("overload"), *answers("starting")])
def test_an_overload_asks_for_a_pause(kind, name):
    answer, body = response(kind, name)
    error = error_of(answer, body)
    assert error.kind == "overload"
    assert error.retry_after_s == float(answer.headers.get("retry-after", 5.0))


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("edgebrush", "overload", "status 429: bs: 0 requests are waiting"),
        ("vllm-omni", "invalid", "status 400: Invalid size format"),
        ("vllm-omni", "invalid-field", 'status 422: [{"loc": ["body", "prompt"], "msg": "field required"'),
        ("sglang", "failed", "status 500: Internal Server Error"),
        ("sd.cpp", "invalid", "status 400: invalid sd_cpp_extra_args"),
        ("sd.cpp", "failed-exception", "status 500: [json.exception.parse_error.101] parse error"),
        ("localai", "overload", 'status 503: model "stablediffusion" is at capacity'),
        ("openai", "unauthorized", "status 401: Incorrect API key provided.; give its token by --station-token-env"),
    ],
)
def test_the_message_of_an_error_is_found(kind, name, message):
    assert str(error_of(*response(kind, name))).startswith(message)


@pytest.mark.parametrize("name", ["metrics", "metrics-2026-05", "metrics-stages"])
def test_the_gauges_of_vllm_omni_are_read_under_all_their_names(name):
    assert load_of("vllm-omni", name) == (3, 2, 5)


def test_the_newest_gauges_count_where_there_are_several():
    (_, new, _), (_, stages, _) = recording("vllm-omni", "metrics-off"), recording("vllm-omni", "metrics-stages")
    load = DIALECTS["vllm-omni"].read_load(stages + new, 5.0, 2, MEAN_STEPS)
    assert load.connections == 0


def test_a_stations_own_report_is_read():
    assert load_of("edgebrush", "load") == (0, 0, 0)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in answers("metrics") if kind != "vllm-omni"])
def test_no_load_is_read_from_other_pages(kind, name):
    with pytest.raises(ValueError, match="reports no load"):
        load_of(kind, name)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "edgebrush"])
def test_a_foreign_page_is_no_load_of_a_station(kind):
    _, body, _ = recording(kind, "models")
    with pytest.raises(ValueError):
        DIALECTS["edgebrush"].read_load(body, 5.0, 2, MEAN_STEPS)
