"""Vectors of floats in Numba's kernels: `load` and `store` of 8, 4, 2 or 1 neighbouring values, and `+` and `*`.

`prefetch` requests values ahead of their use, since waiting for memory takes longer than the arithmetic.

LLVM rarely finds vector instructions in Numba's loops over a few values if their length is known only at run time.
These functions name them. LLVM still splits vectors that are wider than the processor's registers.

A kernel over rows of any length takes the widest vectors as long as they fit, then narrower ones::

    column = 0
    for lanes in literal_unroll(WIDTHS):
        while column + len(lanes) <= length:
            store(out, row + column, load(values, row + column, lanes) * everywhere(gain, lanes))
            column += len(lanes)

Numba's cache does not see changes to this file: remove it (`__pycache__/*.nb?`) after one.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_builtin
from numba.extending import intrinsic, models, register_model, type_callable

#: Widths of vectors, as tuples, because the compiler knows a tuple's length.
WIDTHS = (tuple(range(8)), tuple(range(4)), tuple(range(2)), tuple(range(1)))

FLOAT_BYTES = 4


class Lanes(types.Type):
    """Numba's type of a vector of float32."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"Lanes({count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(ir.FloatType(), lanes.count))


@intrinsic
def load(typing, array, index, lanes):
    """Return the values of a contiguous float32 array from a flat index on."""

    def generate(context, builder, signature, arguments):
        value = builder.load(_pointer(context, builder, signature.args[0], arguments, signature.return_type))
        value.align = FLOAT_BYTES
        return value

    return Lanes(lanes.count)(array, types.intp, lanes), generate


@intrinsic
def store(typing, array, index, value):
    """Set the values of a contiguous float32 array from a flat index on."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], arguments, signature.args[2])
        builder.store(arguments[2], pointer).align = FLOAT_BYTES
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def everywhere(typing, value, lanes):
    """Return a vector with one float32 in all places."""

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(signature.return_type)
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), arguments[0], ir.Constant(ir.IntType(32), 0))
        places = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
        return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), places)

    return Lanes(lanes.count)(types.float32, lanes), generate


@intrinsic
def prefetch(typing, array, index):
    """Request the cache line of a contiguous array's value at a flat index; has no other effect."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        call = builder.module.declare_intrinsic("llvm.prefetch", [byte], function)
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(call, [pointer, number(0), number(3), number(1)])  # a read of data, kept in all caches
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def _pointer(context, builder, array, arguments, lanes):
    data = context.make_array(array)(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(data, [arguments[1]]), context.get_value_type(lanes).as_pointer())


def _arithmetic(symbol, instruction):
    type_callable(symbol)(lambda context: lambda one, other: one if isinstance(one, Lanes) and one == other else None)
    lower_builtin(symbol, Lanes, Lanes)(
        lambda context, builder, signature, arguments: getattr(builder, instruction)(*arguments)
    )


_arithmetic(operator.add, "fadd")
_arithmetic(operator.iadd, "fadd")
_arithmetic(operator.mul, "fmul")
