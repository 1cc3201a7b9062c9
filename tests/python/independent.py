"""The arithmetic of docs/numerics.md a second time, in numpy, written from that page alone.

Formats with one-level FP32 scales: rounding to nearest and stochastic, the random Hadamard transform, both axes, the
offsets of a shard. Every operation on arrays of float32 is one IEEE binary32 operation.
"""

from dataclasses import dataclass, field

import numpy as np

F32 = np.float32
U32 = np.uint32
U64 = np.uint64

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
LEVELS = {
    "e1m2": [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75],
    "int4": list(range(8)),
    "int4_full": list(range(8)),
    "e0m3": list(range(8)),
    "e2m1": E2M1,
    "e2m1_max4": E2M1[:7],
    "e2m1_max3": E2M1[:6],
    "e2m1_max2": E2M1[:5],
}
TWOS_COMPLEMENT = {"int4", "int4_full"}


@dataclass
class Spec:
    format: str
    block: int = 16
    stochastic: bool = False
    hadamard: int = 0
    signs: int | None = None  # None: the mask of the seed
    column: bool = False  # blocks along the first axis
    seed: int = 0
    step: int = 0
    stream: int = 0
    row_offset: int = 0
    column_offset: int = 0
    outer: str | None = None  # int4_i4: what shares a second-level scale; None: 1x512


@dataclass
class Operand:
    codes: np.ndarray  # uint8 [rows, columns / 2]
    scales: np.ndarray  # float32 [rows, columns / block]
    dequant: np.ndarray  # float32 [rows, columns]
    nibbles: np.ndarray = field(repr=False)  # uint8 [rows, columns]
    outer_scales: np.ndarray | None = None  # float32 [rows, segments], of int4_i4


def philox(counter, key):
    """Philox4x32-10: four arrays of counter words, two key words."""
    c = [np.asarray(word, dtype=U64) for word in np.broadcast_arrays(*counter)]
    k0, k1 = int(key[0]), int(key[1])
    low = U64(0xFFFFFFFF)
    for _ in range(10):
        p0 = c[0] * U64(0xD2511F53)
        p1 = c[2] * U64(0xCD9E8D57)
        c = [(p1 >> U64(32)) ^ c[1] ^ U64(k0), p1 & low, (p0 >> U64(32)) ^ c[3] ^ U64(k1), p0 & low]
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [word.astype(U32) for word in c]


def key_of(seed):
    return seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF


def uniform(spec, rows, columns):
    """u of every element of an operand of this shape."""
    r = (np.arange(rows, dtype=U64) + U64(spec.row_offset)) & U64(0xFFFFFFFF)
    c = (np.arange(columns, dtype=U64) + U64(spec.column_offset)) & U64(0xFFFFFFFF)
    words = philox((c[None, :] >> U64(3), r[:, None], spec.step, spec.stream), key_of(spec.seed))
    lane = (c & U64(7)).astype(np.int64)[None, :]
    word = np.choose(np.broadcast_to(lane >> 1, (rows, columns)), words)
    n = np.where(lane & 1, word >> U32(16), word & U32(0xFFFF))
    return (n.astype(F32) + F32(0.5)) / F32(65536)


def default_mask(size, seed):
    words = philox((0, 0, 0, 0xFFFFFFFF), key_of(seed))
    whole = sum(int(word) << 32 * i for i, word in enumerate(words))
    return whole & ((1 << size) - 1)


def hadamard(x, size, mask):
    """x S H / sqrt(size) on each run of `size` values, with butterflies in FP32."""
    signs = np.array([-1 if mask >> i & 1 else 1 for i in range(size)], dtype=F32)
    y = x.reshape(x.shape[0], -1, size) * signs
    stride = 1
    while stride < size:
        pairs = y.reshape(*y.shape[:2], size // (2 * stride), 2, stride)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        y = np.stack([a + b, a - b], axis=-2).reshape(y.shape)
        stride *= 2
    return (y * F32(1 / np.sqrt(np.float64(size)))).reshape(x.shape)


def bits_to_float(matrix, dtype):
    """float32 values of a matrix: float32, float16, or BF16 kept as uint16."""
    if dtype == "BF16":
        return (matrix.astype(U32) << U32(16)).view(F32)
    return matrix.astype(F32)


def round_index(t, levels, u):
    """Indices of the levels that the magnitudes t (already clamped) round to; u is None for nearest."""
    levels = np.array(levels, dtype=F32)
    low = np.clip(np.searchsorted(levels, t, side="right") - 1, 0, len(levels) - 1)
    high = np.minimum(low + 1, len(levels) - 1)
    gap = np.where(high > low, levels[high] - levels[low], F32(1))
    if u is not None:
        return np.where(u < (t - levels[low]) / gap, high, low)
    below, above = t.astype(np.float64) - levels[low], levels[high] - t.astype(np.float64)
    up = (above < below) | ((above == below) & (high % 2 == 0))
    return np.where(up, high, low)


def quantize(matrix, dtype, spec):
    with np.errstate(all="ignore"):
        return _quantize(bits_to_float(matrix, dtype), spec)


def _quantize(x, spec):
    if spec.column:
        x = np.ascontiguousarray(x.T)
    unit = max(spec.block, spec.hadamard)
    rows, columns = x.shape[0], -(-x.shape[1] // unit) * unit
    x = np.pad(x, ((0, 0), (0, columns - x.shape[1])))
    if spec.hadamard and x.size:
        mask = default_mask(spec.hadamard, spec.seed) if spec.signs is None else spec.signs
        x = hadamard(x, spec.hadamard, mask)

    v = x.reshape(rows, columns // spec.block, spec.block)
    u = uniform(spec, rows, columns).reshape(v.shape) if spec.stochastic else None
    finite = np.isfinite(v).all(axis=-1, keepdims=True)
    v = np.where(finite, v, F32(0))
    amax = np.abs(v).max(axis=-1, keepdims=True, initial=F32(0))
    live = amax >= F32(2.0**-120)
    if spec.format == "int4_i4":
        return integer_multiples(v, finite[..., 0], u, spec)
    levels = LEVELS[spec.format]
    largest = F32(levels[-1])
    if spec.format == "int4_full":
        plus = v.max(axis=-1, keepdims=True, initial=F32(0))
        minus = (-v).max(axis=-1, keepdims=True, initial=F32(0))
        a = np.maximum(plus / F32(8), minus / F32(7))
        b = np.maximum(minus / F32(8), plus / F32(7))
        scale = np.where(a < b, -a, b)
        t = v * (F32(1) / np.where(live, scale, F32(1)))
        magnitude = np.minimum(np.abs(t), np.where(t < 0, F32(8), F32(7)))
        index = round_index(magnitude, list(range(9)), u)
    else:
        scale = amax / largest
        t = v * (largest / np.where(live, amax, F32(1)))
        index = round_index(np.minimum(np.abs(t), largest), levels, u)
    negative = (t < 0) & (index > 0)
    index = np.where(live, index, 0)
    negative &= live
    values = np.append(np.array(levels, dtype=F32), np.zeros(9 - len(levels), dtype=F32))
    values[8] = F32(8)  # the ninth magnitude of int4_full
    value = np.where(negative, -values[index], values[index])
    code = np.where(negative, 16 - index if spec.format in TWOS_COMPLEMENT else 8 + index, index)
    scale = np.where(live, scale, F32(0))
    scale = np.where(finite, scale, F32(np.nan)).astype(F32)

    nibbles = code.reshape(rows, columns).astype(np.uint8)
    return Operand(
        codes=nibbles[:, 0::2] | nibbles[:, 1::2] << 4,
        scales=scale.reshape(rows, columns // spec.block),
        dequant=(value.astype(F32) * scale).reshape(rows, columns),
        nibbles=nibbles,
    )


def integer_multiples(v, finite, u, spec):
    """int4_i4: v [rows, blocks, block] with zeros where a block is not finite."""
    rows, blocks, block = v.shape
    columns = blocks * block
    length = {None: 512, "row": max(columns, 1)}.get(spec.outer) or int(spec.outer.removeprefix("1x"))
    plus = v.max(axis=-1, initial=F32(0))
    minus = (-v).max(axis=-1, initial=F32(0))
    a = np.maximum(plus / F32(8), minus / F32(7))
    b = np.maximum(minus / F32(8), plus / F32(7))
    f = np.minimum(a, b)
    segment = np.arange(blocks) * block // length
    segments = -(-columns // length)
    largest = np.zeros((rows, segments), F32)
    broken = np.zeros((rows, segments), bool)
    for s in range(segments):
        here = segment == s
        largest[:, s] = np.where(finite[:, here], f[:, here], F32(0)).max(axis=1, initial=F32(0))
        broken[:, s] = ~finite[:, here].all(axis=1)
    used = largest >= F32(2.0**-110)
    outer = np.where(used, largest / F32(15), F32(0)).astype(F32)
    inverse = (F32(15) / np.where(used, largest, F32(1)))[:, segment]
    live = finite & used[:, segment] & (f >= F32(2.0**-120))
    r = f * inverse
    m = np.clip(np.ceil(r if spec.stochastic else r - np.minimum(F32(0.5), r * F32(0.09375))), F32(1), F32(15))
    sign = np.where(a < b, F32(-1), F32(1))
    t = (v * inverse[..., None]) * (sign * (F32(1) / m))[..., None]
    magnitude = np.minimum(np.abs(t), np.where(t < 0, F32(8), F32(7)))
    index = np.where(live[..., None], round_index(magnitude, list(range(9)), u), 0)
    code = np.where(t < 0, -index, index)
    scale = np.where(live, sign * m, F32(0)).astype(F32)
    outer = np.where(broken, F32(np.nan), outer).astype(F32)
    nibbles = (code & 15).reshape(rows, columns).astype(np.uint8)
    value = (code * scale.astype(np.int64)[..., None]).astype(F32) * outer[:, segment][..., None]
    return Operand(nibbles[:, 0::2] | nibbles[:, 1::2] << 4, scale, value.reshape(rows, columns), nibbles, outer)
