"""Asking for memory before it is needed, which LLVM can be told and Python cannot say."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["prefetch"]

_BYTE, _INT32 = ir.IntType(8), ir.IntType(32)
_READ, _KEEP, _DATA = _INT32(0), _INT32(3), _INT32(1)


def _prefetch(typing_context, values, at):
    """Have the processor bring values[at], an element of a contiguous array, near; nothing else comes of it."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), _BYTE.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, _INT32, _INT32, _INT32])
        function = builder.module.declare_intrinsic("llvm.prefetch", (place.type,), kind)
        builder.call(function, [place, _READ, _KEEP, _DATA])
        return context.get_dummy_value()

    return types.void(values, types.int64), generate


prefetch: Any = intrinsic(_prefetch)
