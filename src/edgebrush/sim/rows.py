"""Rows: bare pointers to consecutive records or numbers; the compiled loops pass these instead of arrays.

A numba array is seven machine words or more, and a tuple of twenty arrays is passed to every function word by word.
That took half of the simulator's run time and most of its compile time. ``Rows`` are one word. They have no length
and no bounds checks and keep nothing alive: the caller holds the array, and sizes are in the common parameters or in
the episode's state.
"""

import operator

import numba
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from .compile import compiled


class Rows(types.Type):
    """The numba type of rows of ``dtype``."""

    def __init__(self, dtype: types.Type):
        self.dtype = dtype
        super().__init__(name=f"Rows({dtype})")


register_model(Rows)(models.OpaqueModel)


@intrinsic
def rows(typing_context, array):
    """A pointer to an array's first row; the array must be in C order."""
    if not (isinstance(array, types.Array) and array.layout == "C"):
        raise numba.TypingError(f"rows are those of an array in C order, not of {array}")

    def generate(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.bitcast(data, cgutils.voidptr_t)

    return Rows(array.dtype)(array), generate


def _pointer(context, builder, row_type, start, index):
    """The address of a row."""
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(row_type)))
    address = builder.gep(start, [builder.mul(index, size)], inbounds=True)
    return builder.bitcast(address, context.get_data_type(row_type).as_pointer())


@infer_global(operator.getitem)
class _TypeOfGet(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Rows) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.intp)


@lower_builtin(operator.getitem, Rows, types.intp)
def _get(context, builder, sig, args):
    row_type = sig.args[0].dtype
    return context.unpack_value(builder, row_type, _pointer(context, builder, row_type, *args))


@infer_global(operator.setitem)
class _TypeOfSet(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Rows) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.intp, args[0].dtype)


@lower_builtin(operator.setitem, Rows, types.intp, types.Any)
def _set(context, builder, sig, args):
    row_type = sig.args[0].dtype
    context.pack_value(builder, row_type, args[2], _pointer(context, builder, row_type, *args[:2]))
    return context.get_dummy_value()


@intrinsic
def _address(typing_context, rows, index):
    def generate(context, builder, signature, args):
        return _pointer(context, builder, rows.dtype, *args)

    return types.CPointer(rows.dtype)(rows, types.intp), generate


@compiled
def array_at(rows, first, shape):
    """An array of ``shape`` over the numbers that start at ``rows[first]``."""
    return numba.carray(_address(rows, first), shape)
