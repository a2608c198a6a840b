"""Whose fault a task's failure is: a client's mistake ends the task where trying further is pointless."""

import pytest

from edgebrush.api.schema import MAX_SEED
from edgebrush.scenario.schema import Scenario
from tests.support.agents import LARGE, SMALL, TESTBED, PreferSlots, audit_journal, generate_all, make_task
from tests.support.fakes import PNG, REPLY, FakeStation

INVALID = 422, {"error": {"message": "class = 'cat': unknown", "code": "invalid_value"}}


def answering(status, reply):
    station = FakeStation()
    station.status, station.reply = status, reply
    return station


def with_other_profile() -> Scenario:
    """The testbed, whose second BS has another model."""
    small = TESTBED.bss[1].model_copy(update={"profile": "sdxl-a100"})
    return TESTBED.model_copy(update={"bss": (TESTBED.bss[0], small)})


def test_a_request_that_a_bs_calls_invalid_is_not_sent_to_one_with_the_same_model(tmp_path):
    large, small = answering(*INVALID), FakeStation()
    [result] = generate_all(
        tmp_path, PreferSlots(LARGE, SMALL, 0), {"large": large, "small": small}, [make_task("t", prompt="cat")]
    )
    assert result.kind == "invalid" and result.attempts == 1 and not small.requests
    assert "large: status 422: class = 'cat'" in result.error and "own device: class = 'cat'" in result.error
    assert audit_journal(tmp_path, 1) == 0


def test_it_is_sent_to_one_with_another_model(tmp_path):
    large, small = answering(*INVALID), FakeStation()
    [result] = generate_all(
        tmp_path,
        PreferSlots(LARGE, SMALL, 0),
        {"large": large, "small": small},
        [make_task("t", prompt="cat")],
        scenario=with_other_profile(),
    )
    assert result.place == "small" and result.image == PNG and result.attempts == 2


def test_without_a_bs_an_unknown_prompt_is_tried_nowhere(tmp_path):
    [result] = generate_all(tmp_path, PreferSlots(0), {}, [make_task("t", prompt="A cute baby sea otter")])
    assert result.kind == "invalid" and result.attempts == 0 and "own device: class = 'A cute" in result.error


@pytest.mark.parametrize(("seed", "kind"), [(MAX_SEED, ""), (MAX_SEED + 1, "invalid")])
def test_the_own_device_refuses_seeds_as_a_bs_does(tmp_path, seed, kind):
    [result] = generate_all(tmp_path, PreferSlots(0), {}, [make_task("t", seed=seed)])
    assert result.kind == kind and result.attempts == (kind == "")


@pytest.mark.parametrize(
    ("status", "reply", "kind"),
    [
        (500, b"", "failed"),
        (401, b"", "failed"),
        (404, b"", "failed"),
        (429, {"error": {"message": "full"}}, "overload"),
        (503, b"", "overload"),
        (200, REPLY | {"data": []}, "failed"),
    ],
)
def test_any_other_failure_is_not_the_clients(tmp_path, status, reply, kind):
    """The own model does not know the prompt, but another place could."""
    stations = {"large": answering(status, reply), "small": answering(*INVALID)}
    [result] = generate_all(tmp_path, PreferSlots(LARGE, SMALL), stations, [make_task("t", prompt="cat")])
    assert result.image is None and result.kind == kind and result.attempts == 2
    assert (result.retry_after_s > 0) == (kind == "overload")


def test_a_bs_that_is_full_says_when_to_try_again(tmp_path):
    large = answering(429, {"error": {"message": "full"}})
    large.headers = {"retry-after": "7"}
    [result] = generate_all(tmp_path, PreferSlots(LARGE), {"large": large}, [make_task("t", prompt="cat")])
    assert result.kind == "overload" and result.retry_after_s == 7.0
