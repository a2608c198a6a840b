"""`--help` of every verb: defaults that are true, and examples."""

import re

import pytest
import typer

from edgebrush.cli.main import app, run
from edgebrush.evaluation import EVALUATED_TASKS
from edgebrush.evaluation.held_out import default_episodes
from edgebrush.scenario.load import load_scenario
from edgebrush.study import TRAINING_S, TRAINING_SEEDS
from edgebrush.study.findings import QUICK_PLAN, Plan

COMMAND = typer.main.get_command(app)
GROUPS = {name: list(group.commands) for name, group in COMMAND.commands.items() if hasattr(group, "commands")}
VERBS = [[name] for name in COMMAND.commands] + [[name, verb] for name, verbs in GROUPS.items() for verb in verbs]
OTHERS = ("gdm", "profile", "profiles", "generate")
DIALECT = re.compile(
    r"as it comes|go(es)? on|is there|what it (has|costs) to say|one's own|is at once|\b(judge|hear|tell)s?\b"
    r"|asked for|upon|whom"
)


def help_of(capsys, *verb):
    """The help text on one line."""
    assert run([*verb, "--help"]) == 0
    return " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_and_option_is_described_in_plain_words(capsys, verb):
    command = COMMAND
    for name in verb:
        command = command.commands[name]
    assert command.help and command.help.rstrip().endswith(".")
    text = help_of(capsys, *verb)
    assert verb[0] in OTHERS or not DIALECT.search(text), DIALECT.search(text)
    for option in command.params:
        assert verb[0] in OTHERS or option.help, option.name


@pytest.mark.parametrize("verb", ["compare", "evaluate", "train", "tune", "serve", "ue", "testbed", "scenarios"])
def test_help_has_examples(capsys, verb):
    assert f"edgebrush {verb} " in help_of(capsys, verb)


def test_the_number_of_evaluated_tasks_is_the_one_that_is_used(capsys):
    campus = load_scenario("campus")
    tasks = default_episodes(campus) * campus.task_rate_hz * campus.horizon_s
    assert tasks == pytest.approx(EVALUATED_TASKS, rel=0.01)
    for verb in ("compare", "evaluate"):
        assert f"enough for {EVALUATED_TASKS:,} tasks" in help_of(capsys, verb)


def test_training_defaults_are_those_of_the_library(capsys):
    for verb in ("compare", "train"):
        text = help_of(capsys, verb)
        assert f"[default: {TRAINING_S}]" in text and f"[default: {TRAINING_SEEDS}]" in text


def test_the_studys_defaults_are_those_of_its_plans(capsys):
    text = help_of(capsys, "reproduce")
    full = Plan()
    assert f"[default: ({full.seeds}, quick {QUICK_PLAN.seeds})]" in text
    assert f"[default: ({full.decisions:,}, quick {QUICK_PLAN.decisions:,})]" in text
