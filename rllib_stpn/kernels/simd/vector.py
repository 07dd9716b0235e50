"""A 16-lane float32 vector as a numba type, so that inner loops are vector code by construction.

Numba leaves vectorising to LLVM, which gives up on loops that read and write as many arrays as the STPN
backward does: every pair of arrays could overlap. Loads and stores spelled out as vectors need no such proof, and
what one load serves (several samples, several sums) is decided here and not by a heuristic. LLVM splits the 16
lanes into whatever registers the processor has, so the code runs everywhere.

Loads and stores take a flat array and an element offset, and do no bounds checks.
"""

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import PrimitiveModel, register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic

LANES = 16

_float = ir.FloatType()
_int = ir.IntType(32)
_floats = ir.VectorType(_float, LANES)
_ints = ir.VectorType(_int, LANES)


class _VectorType(types.Type):
    def __init__(self):
        super().__init__(name="float32x16")


@register_default(_VectorType)
class _VectorModel(PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _floats)


vector = _VectorType()


def _register_operator(op, build):
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and all(isinstance(a, _VectorType) for a in args):
                return signature(vector, vector, vector)
            return None

    infer_global(op)(Template)

    @lower_builtin(op, vector, vector)
    def lower(context, builder, sig, args):
        return build(builder, *args)


# "contract" lets a product and a sum become one fused multiply-add; nothing else is relaxed, so NaN stays NaN.
_register_operator(operator.add, lambda b, x, y: b.fadd(x, y, flags=("contract",)))
_register_operator(operator.sub, lambda b, x, y: b.fsub(x, y, flags=("contract",)))
_register_operator(operator.mul, lambda b, x, y: b.fmul(x, y, flags=("contract",)))
_register_operator(operator.truediv, lambda b, x, y: b.fdiv(x, y))


def _constant(value):
    return ir.Constant(_floats, [value] * LANES)


def _int_constant(value):
    return ir.Constant(_ints, [value] * LANES)


def _call(builder, name, *args):
    fnty = ir.FunctionType(_floats, [_floats] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, fnty, name), args)


def _pointer(context, builder, array_type, array, offset):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _floats.as_pointer())


@intrinsic
def load(typingctx, array, offset):
    """Loads 16 consecutive elements."""

    def codegen(context, builder, sig, args):
        offset = context.cast(builder, args[1], sig.args[1], types.intp)
        return builder.load(_pointer(context, builder, sig.args[0], args[0], offset), align=4)

    return vector(array, offset), codegen


@intrinsic
def store(typingctx, array, offset, value):
    """Stores 16 consecutive elements."""

    def codegen(context, builder, sig, args):
        offset = context.cast(builder, args[1], sig.args[1], types.intp)
        builder.store(args[2], _pointer(context, builder, sig.args[0], args[0], offset), align=4)
        return context.get_dummy_value()

    return types.none(array, offset, value), codegen


@intrinsic
def splat(typingctx, x):
    """Sixteen copies of a scalar."""

    def codegen(context, builder, sig, args):
        x = context.cast(builder, args[0], sig.args[0], types.float32)
        one = builder.insert_element(ir.Constant(_floats, ir.Undefined), x, ir.Constant(_int, 0))
        return builder.shuffle_vector(one, one, ir.Constant(_ints, [0] * LANES))

    return vector(x), codegen


@intrinsic
def broadcast(typingctx, array, offset):
    """Sixteen copies of an element; numba's own indexing would first look whether the offset is negative."""

    def codegen(context, builder, sig, args):
        offset = context.cast(builder, args[1], sig.args[1], types.intp)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        x = builder.load(builder.gep(data, [offset]))
        one = builder.insert_element(ir.Constant(_floats, ir.Undefined), x, ir.Constant(_int, 0))
        return builder.shuffle_vector(one, one, ir.Constant(_ints, [0] * LANES))

    return vector(array, offset), codegen


@intrinsic
def absolute(typingctx, x):
    """Absolute value."""
    return vector(x), lambda context, builder, sig, args: _call(builder, "llvm.fabs.v16f32", *args)


@intrinsic
def square_root(typingctx, x):
    """Square root."""
    return vector(x), lambda context, builder, sig, args: _call(builder, "llvm.sqrt.v16f32", *args)


@intrinsic
def copy_sign(typingctx, x, sign):
    """Magnitude of ``x`` with the sign of ``sign``."""
    return vector(x, sign), lambda context, builder, sig, args: _call(builder, "llvm.copysign.v16f32", *args)


@intrinsic
def at_most(typingctx, x, bound):
    """The smaller of the two; NaN in ``x`` stays."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", args[1], args[0]), args[1], args[0])

    return vector(x, bound), codegen


@intrinsic
def at_least(typingctx, x, bound):
    """The larger of the two; NaN in ``x`` stays."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[1], args[0]), args[1], args[0])

    return vector(x, bound), codegen


@intrinsic
def where_inside(typingctx, x, bound, value):
    """``value`` where ``|x| < bound`` or ``x`` is NaN, else 0."""

    def codegen(context, builder, sig, args):
        x, bound, value = args
        inside = builder.fcmp_unordered("<", _call(builder, "llvm.fabs.v16f32", x), bound)
        return builder.select(inside, value, _constant(0.0))

    return vector(x, bound, value), codegen


@intrinsic
def power_of_two(typingctx, shifted):
    """``2**n`` for ``shifted = n + 1.5 * 2**23``, whose low mantissa bits hold the integer ``n``."""

    def codegen(context, builder, sig, args):
        bits = builder.shl(builder.bitcast(args[0], _ints), _int_constant(23))
        return builder.bitcast(builder.add(bits, _int_constant(127 << 23)), _floats)

    return vector(shifted), codegen


@intrinsic
def sum_each(typingctx, array, offset):
    """Sums each of the 16 vectors stored from ``offset`` on; lane ``i`` of the result is the sum of vector ``i``.

    Sixteen sums at once cost 45 instructions where one at a time cost eight each.
    """

    def codegen(context, builder, sig, args):
        offset = context.cast(builder, args[1], sig.args[1], types.intp)
        vectors = []
        for i in range(LANES):
            at = builder.add(offset, ir.Constant(offset.type, i * LANES))
            vectors.append(builder.load(_pointer(context, builder, sig.args[0], args[0], at), align=4))
        # Each round adds the two halves of every group and puts two vectors' groups into one.
        width = LANES
        while width > 1:
            half = width // 2
            low = [g * width + i for g in range(LANES // width) for i in range(half)]
            lower = ir.Constant(_ints, low + [LANES + i for i in low])
            upper = ir.Constant(_ints, [i + half for i in low] + [LANES + i + half for i in low])
            vectors = [
                builder.fadd(builder.shuffle_vector(a, b, lower), builder.shuffle_vector(a, b, upper))
                for a, b in zip(vectors[::2], vectors[1::2], strict=True)
            ]
            width = half
        return vectors[0]

    return vector(array, offset), codegen


_mask_type = ir.VectorType(ir.IntType(1), LANES)


def _first_lanes(builder, count):
    """The mask of the first ``count`` lanes; all of them where it is more than there are."""
    count = builder.trunc(count, _int)
    one = builder.insert_element(ir.Constant(_ints, ir.Undefined), count, ir.Constant(_int, 0))
    splat = builder.shuffle_vector(one, one, ir.Constant(_ints, [0] * LANES))
    return builder.icmp_signed("<", ir.Constant(_ints, list(range(LANES))), splat)


def _masked_load(builder, pointer, mask):
    fnty = ir.FunctionType(_floats, [pointer.type, _int, _mask_type, _floats])
    function = cgutils.get_or_insert_function(builder.module, fnty, "llvm.masked.load.v16f32.p0")
    return builder.call(function, [pointer, ir.Constant(_int, 4), mask, _constant(0.0)])


def _masked_store(builder, value, pointer, mask):
    fnty = ir.FunctionType(ir.VoidType(), [_floats, pointer.type, _int, _mask_type])
    function = cgutils.get_or_insert_function(builder.module, fnty, "llvm.masked.store.v16f32.p0")
    builder.call(function, [value, pointer, ir.Constant(_int, 4), mask])


@intrinsic
def load_first(typingctx, array, offset, count):
    """Loads ``count`` elements, 16 at most, and zeros; what lies behind them is not touched."""

    def codegen(context, builder, sig, args):
        offset, count = (context.cast(builder, args[i], sig.args[i], types.intp) for i in (1, 2))
        return _masked_load(
            builder, _pointer(context, builder, sig.args[0], args[0], offset), _first_lanes(builder, count)
        )

    return vector(array, offset, count), codegen


@intrinsic
def store_first(typingctx, array, offset, value, count):
    """Stores the first ``count`` elements, 16 at most."""

    def codegen(context, builder, sig, args):
        offset, count = (context.cast(builder, args[i], sig.args[i], types.intp) for i in (1, 3))
        pointer = _pointer(context, builder, sig.args[0], args[0], offset)
        _masked_store(builder, args[2], pointer, _first_lanes(builder, count))
        return context.get_dummy_value()

    return types.none(array, offset, value, count), codegen


@intrinsic
def transpose(typingctx, source, begin, source_stride, target, to, target_stride, rows, columns):
    """Copies ``rows`` rows of ``columns`` elements, 16 at most of either, as columns; nothing else is touched.

    Rows are ``source_stride`` apart where they come from and ``target_stride`` where they go.
    """

    def codegen(context, builder, sig, args):
        begin, source_stride, to, target_stride, row_count, column_count = (
            context.cast(builder, args[i], sig.args[i], types.intp) for i in (1, 2, 4, 5, 6, 7)
        )
        row_mask, column_mask = _first_lanes(builder, row_count), _first_lanes(builder, column_count)
        none = ir.Constant(_mask_type, [False] * LANES)

        def row(array_type, array, start, stride, i):
            at = builder.add(start, builder.mul(stride, ir.Constant(start.type, i)))
            return _pointer(context, builder, array_type, array, at)

        def mask(lanes, i, count):
            return builder.select(builder.icmp_signed("<", ir.Constant(count.type, i), count), lanes, none)

        rows = [
            _masked_load(builder, row(sig.args[0], args[0], begin, source_stride, i), mask(column_mask, i, row_count))
            for i in range(LANES)
        ]
        # Each round swaps the off-diagonal blocks of every pair of rows `width` apart.
        width = LANES // 2
        while width:
            upper = [lane if lane & width == 0 else LANES + lane - width for lane in range(LANES)]
            lower = [lane + width if lane & width == 0 else LANES + lane for lane in range(LANES)]
            for i in range(LANES):
                if i & width == 0:
                    a, b = rows[i], rows[i + width]
                    rows[i] = builder.shuffle_vector(a, b, ir.Constant(_ints, upper))
                    rows[i + width] = builder.shuffle_vector(a, b, ir.Constant(_ints, lower))
            width //= 2
        for i in range(LANES):
            pointer = row(sig.args[3], args[3], to, target_stride, i)
            _masked_store(builder, rows[i], pointer, mask(row_mask, i, column_count))
        return context.get_dummy_value()

    return types.none(source, begin, source_stride, target, to, target_stride, rows, columns), codegen
