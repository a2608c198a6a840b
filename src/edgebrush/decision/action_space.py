"""The action space: what a task's UE can choose, and how a choice is encoded as one integer.

A choice is a triple (slot, step index, service class). Slot 0 is the UE's own device; slots 1 to S-1 are its
neighbour BSs. The step index points into the step grid. An action is the index of the triple in a C-ordered array of
shape (S, K, P): the class varies fastest, then the step index, then the slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Index = Any  # an integer, or an integer array of NumPy or JAX


def encode_action(slot: Index, step_index: Index, service_class: Index, grid_size: int, classes: int) -> Index:
    """The action of a triple; compiles with numba."""
    return (slot * grid_size + step_index) * classes + service_class


def decode_action(action: Index, grid_size: int, classes: int) -> tuple[Index, Index, Index]:
    """(slot, step_index, service_class) of an action; the inverse of ``encode_action``."""
    return action // (grid_size * classes), action // classes % grid_size, action % classes


@dataclass(frozen=True)
class ActionSpace:
    """The choices of one scenario; hashable, so JAX can treat it as static."""

    slots: int  # S: the own device and the neighbour BSs
    step_grid: tuple[int, ...]  # the K allowed step counts, ascending
    classes: int  # P service classes

    @property
    def grid_size(self) -> int:
        """K, the number of entries of the step grid."""
        return len(self.step_grid)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, K, P), the shape of an array with one entry per action."""
        return self.slots, self.grid_size, self.classes

    @property
    def per_slot(self) -> int:
        """K * P, the number of actions of one slot."""
        return self.grid_size * self.classes

    @property
    def count(self) -> int:
        """S * K * P, the number of actions."""
        return self.slots * self.per_slot

    def encode(self, slot: Index, step_index: Index, service_class: Index) -> Index:
        """The action of a triple."""
        return encode_action(slot, step_index, service_class, self.grid_size, self.classes)

    def decode(self, action: Index) -> tuple[Index, Index, Index]:
        """(slot, step_index, service_class) of an action."""
        return decode_action(action, self.grid_size, self.classes)
