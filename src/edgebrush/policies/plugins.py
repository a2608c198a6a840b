"""Policies from outside the package: ``module:Class``, or a name that an installed package registers.

A policy is a class (or function) that returns a ``Policy`` for a scenario::

    class MyPolicy:
        name = "my-policy"  # in results.json and in the report

        def __init__(self, scenario: Scenario): ...
        def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray: ...

Wherever a policy is named, ``my_module:MyPolicy`` loads it. The module is imported from the current folder or from an
installed package, so naming it runs its code. Text after a second colon is passed on as a second argument, which is
usually a folder: ``my_module:MyPolicy:runs/mine``.

A package registers its policies as entry points of the group ``edgebrush.policies``::

    [project.entry-points."edgebrush.policies"]
    my-policy = "my_module:MyPolicy"
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol, overload

import numpy as np

from edgebrush.errors import UserError
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.schema import Scenario

from .protocol import Policy
from .rules import KINDS

POLICIES = "edgebrush.policies"  # the group of entry points
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class PolicyFactory(Protocol):
    """What ``module:Class`` or an entry point of the group ``edgebrush.policies`` names."""

    @overload
    def __call__(self, scenario: Scenario, /) -> Policy: ...
    @overload
    def __call__(self, scenario: Scenario, argument: str, /) -> Policy: ...


@dataclass(frozen=True)
class Plugin:
    """A loaded object and the text after it, None where there is none."""

    reference: str  # as the user gave it
    target: Any
    argument: str | None


def plugin_names(group: str) -> list[str]:
    """Names that installed packages register in a group of entry points."""
    return sorted(entry.name for entry in entry_points(group=group))


def find_plugin(reference: str, group: str) -> Plugin | None:
    """The plugin of ``NAME[:ARGUMENT]`` or ``MODULE:ATTRIBUTE[:ARGUMENT]``; None where the text is neither.

    Raises ``UserError`` where it cannot be imported.
    """
    head, colon, rest = reference.partition(":")
    for entry in entry_points(group=group, name=head):
        return Plugin(reference, _load(reference, entry.module, entry.attr), rest if colon else None)
    if not colon or not all(part.isidentifier() for part in head.split(".")):
        return None
    attribute, colon, argument = rest.partition(":")
    return Plugin(reference, _load(reference, head, attribute), argument if colon else None)


def load_plugin_policy(reference: str, scenario: Scenario) -> Policy | None:
    """The policy of a plugin, with its choices checked; None where the text names no plugin.

    Raises ``UserError`` where it cannot be imported or is not a policy.
    """
    plugin = find_plugin(reference, POLICIES)
    if plugin is None:
        return None
    arguments = (scenario,) if plugin.argument is None else (scenario, plugin.argument)
    check_call(plugin, "policy", arguments)
    policy = plugin.target(*arguments)
    name = getattr(policy, "name", None)
    if not callable(getattr(policy, "choose", None)) or not isinstance(name, str):
        raise UserError(f"policy {reference!r}: a policy has a name and a method choose(observations, draws)")
    if not NAME.fullmatch(name) or name in KINDS:
        raise UserError(
            f"policy {reference!r}: name = {name!r}: must be lower-case letters, digits and hyphens, and no rule's name"
        )
    return CheckedPolicy(policy, reference, scenario)


class CheckedPolicy:
    """A policy from outside the package. ``choose`` raises ``UserError`` where its choices cannot be used."""

    def __init__(self, policy: Policy, reference: str, scenario: Scenario):
        space = action_space(scenario)
        self.policy, self.reference = policy, reference
        self.first = 0 if scenario.decision.local else space.per_slot
        self.count = space.count

    @property
    def name(self) -> str:
        return self.policy.name

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        choices = np.asarray(self.policy.choose(observations, draws))
        if choices.shape != draws.shape or choices.dtype.kind not in "iu":
            raise UserError(
                f"policy {self.reference!r}: choose returned {choices.dtype} of shape {choices.shape}; it must return "
                f"one integer per observation, of shape {draws.shape}"
            )
        outside = (choices < self.first) | (choices >= self.count)
        if outside.any():
            raise UserError(
                f"policy {self.reference!r}: choose returned {int(choices[outside][0])}; a choice is one of "
                f"{self.first}..{self.count - 1}"
            )
        return choices.astype(np.int64, copy=False)


def check_call(plugin: Plugin, what: str, arguments: tuple[Any, ...]) -> None:
    """Raises ``UserError`` unless the plugin can be called with these arguments."""
    if not callable(plugin.target):
        raise UserError(
            f"{what} {plugin.reference!r}: is of type {type(plugin.target).__name__}; it must be a class or function"
        )
    try:
        inspect.signature(plugin.target).bind(*arguments)
    except TypeError as error:
        given = "a scenario" if len(arguments) == 1 else "a scenario and the text after the second colon"
        raise UserError(f"{what} {plugin.reference!r}: cannot be called with {given}: {error}") from None


def _load(reference: str, module: str, attribute: str) -> Any:
    """Import a module, also from the current folder, and look up an attribute."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that it hides no installed module
    try:
        loaded = import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            where = "the current folder and the installed packages have none"
            raise UserError(f"{reference!r}: module {module!r} is not found; {where}") from None
        raise UserError(f"{reference!r}: importing {module} needs {error.name}, which is not installed") from None
    target: Any = loaded
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise UserError(f"{reference!r}: module {module!r} has no {attribute!r}")
        target = getattr(target, part)
    return target
