"""The joint choice of a task: (slot, steps, service class) and its index.

A slot is the own device (0) or one of the UE's neighbour BSs (1..S-1). Choices are numbered with the class
fastest, then the steps, then the slot: ``(slot * K + step_index) * P + service_class``.
"""

from typing import NamedTuple


class ChoiceShape(NamedTuple):
    """How many slots, entries of the step grid and service classes there are."""

    slots: int
    steps: int
    classes: int

    @property
    def count(self) -> int:  # type: ignore[override]
        """Number of joint choices."""
        return self.slots * self.steps * self.classes


def index_of(shape: ChoiceShape, slot: int, step_index: int, service_class: int) -> int:
    """The number of a joint choice."""
    return (slot * shape.steps + step_index) * shape.classes + service_class


def split(shape: ChoiceShape, choice: int) -> tuple[int, int, int]:
    """(slot, step_index, service_class) of a choice's number."""
    rest, service_class = divmod(choice, shape.classes)
    slot, step_index = divmod(rest, shape.steps)
    return slot, step_index, service_class
