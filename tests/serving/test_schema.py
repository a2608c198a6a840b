"""Requests generated from the station's OpenAPI schema, valid and invalid: the responses must follow the schema."""

from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from edgebrush.agent.app import create_app
from tests.support.agents import PreferSlots, make_agent
from tests.support.models import Formula
from tests.support.serving import CIRCLE, IMAGES, TIMEOUT_S, make_station, serve_app, served

pytestmark = pytest.mark.process
REPOSITORY = Path(__file__).parents[2]


class AnyPrompt(Formula):
    """A formula that accepts any prompt, so that most requests that the schema allows succeed."""

    def check(self, prompt):
        pass

    def encode(self, prompt):
        return len(prompt.text) % 3


@pytest.fixture(scope="module")
def client():
    with served(make_station(backend=AnyPrompt(), steps=50, queue=1000)) as client:
        yield client


@pytest.fixture(autouse=True)
def no_files_in_the_repository(monkeypatch, tmp_path):
    """schemathesis writes crash reports to `.schemathesis/` in the working directory: it must not be the repository."""
    existed = (REPOSITORY / ".schemathesis").exists()
    monkeypatch.chdir(tmp_path)
    yield
    assert (REPOSITORY / ".schemathesis").exists() == existed


def check_examples(client, mode, count, valid=CIRCLE):
    """Send ``count`` generated requests per route, and check the responses against the schema; then a valid one."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    schema.config.checks.not_a_server_error.expected_statuses = ["2xx", "4xx", "504"]  # deadline_s may be 5e-324
    schema.config.checks.negative_data_rejection.expected_statuses = ["400", "404", "413", "422"]
    bounded = settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for operation in schema.get_all_operations():

        @bounded
        @given(case=operation.ok().as_strategy(generation_mode=mode))
        def follows_the_schema(case):
            # The schema does not list the classes that a model knows.
            excluded = [checks.positive_data_acceptance]
            case.call_and_validate(base_url=str(client.base_url), excluded_checks=excluded)

        with suppress(Unsatisfiable):  # a route without parameters has no invalid requests
            follows_the_schema()
    assert client.post(IMAGES, json=valid).status_code == 200


@pytest.mark.parametrize("mode", GenerationMode)
def test_responses_follow_the_schema(client, mode):
    check_examples(client, mode, 4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", GenerationMode)
def test_many_responses_follow_the_schema(client, mode):
    check_examples(client, mode, 500)


@pytest.mark.slow
@pytest.mark.parametrize("mode", GenerationMode)
def test_many_responses_of_an_agent_follow_its_schema(mode, tmp_path):
    agent = make_agent(tmp_path / "journal", PreferSlots(0), {}, AnyPrompt())
    agent.device.queue_limit = 1000
    with serve_app(create_app(agent)) as (_, url), httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
        check_examples(client, mode, 200, {"prompt": "circle"})
