# SPDX-License-Identifier: Apache-2.0
"""One operation, chains, sums, columns and functions, as docs/NUMERICS.md has them.

An fp32 value is held in a float64 array, which contains it exactly; r() rounds what float64
arithmetic made of such values. For one +, -, *, / or square root that gives what fp32 would give:
53 bits are enough for the first rounding to do no harm (Figueroa, 1995). fma() needs more care.
"""
import math
import numpy as np

SMALLEST = 2.0**-126
TINY = SMALLEST - 2.0**-151  # from here on a value rounds to 2^-126 or more


def r(x):
    """Rounds to fp32, to nearest, ties to even; tiny results become zero of their sign."""
    tiny = np.abs(x) < TINY
    if tiny.any():
        x = np.where(tiny, np.copysign(0.0, x), x)
    return x.astype(np.float32).astype(np.float64)


def fma(a, b, c):
    """fp32 of a b + c with one rounding. The product is exact in float64. Where the sum is not, and
    lies where a second rounding could go wrong, it is rounded to odd first."""
    product = a * b
    total = np.asarray(product + c)
    bits = total.view(np.int64)
    risky = ((bits & 0x1FFFFFFF) == 0x10000000) | (np.abs(total) < 2 * SMALLEST)
    if risky.any():
        part = total - product  # the error of an addition is exact (Knuth, 1969)
        error = (product - (total - part)) + (c - part)
        even = risky & (error != 0) & (bits % 2 == 0)
        if even.any():
            away = np.where((error > 0) == (total > 0), 1, -1)
            total = np.where(even, bits + away, bits).view(np.float64)
    return r(total)


def bf16(x):
    """Rounds fp32 values to bfloat16."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32)
    return r(bits.view(np.float32).astype(np.float64))


def fp32(x):
    return float(r(np.float64(x)))


# Chains, sums, columns.


def order(count, pairs):
    """Indices of a chain over `count` elements; bf16 takes the odd one of each pair first. None is
    the padding of an odd count."""
    if not pairs:
        return list(range(count))
    return [j if j < count else None for i in range(0, count, 2) for j in (i + 1, i)]


def chain(a, b, pairs, start=None):
    """out[..., m, n] = chain over k of a[..., m, k] b[..., k, n], from +0 or a stored value."""
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + (a.shape[-2], b.shape[-1])
    out = np.zeros(shape) if start is None else start
    for k in order(a.shape[-1], pairs):
        if k is not None:
            out = fma(a[..., :, k, None], b[..., k, None, :], out)
    return r(out + 0.0)


def tree(parts):
    """Joins a list; the left half is the largest power of two below its size."""
    if len(parts) == 1:
        return parts[0]
    left = 1 << (len(parts) - 1).bit_length() - 1
    return r(tree(parts[:left]) + tree(parts[left:]))


BLOCK, LANES = 4096, 16


def lanes(step, count, shape):
    """A Sum over the last axis: step(lane, i, width) adds elements i to i + width."""
    blocks = []
    for begin in range(0, count, BLOCK):
        lane = np.zeros(shape + (LANES,))
        for i in range(begin, min(begin + BLOCK, count), LANES):
            width = min(LANES, count - i)
            lane[..., :width] = step(lane[..., :width], i, width)
        half = LANES // 2
        while half >= 1:
            lane = r(lane[..., :half] + lane[..., half:])
            half //= 2
        blocks.append(lane[..., 0])
    return r(tree(blocks) + 0.0)


def sum_of(x):
    return lanes(lambda lane, i, w: r(lane + x[..., i:i + w]), x.shape[-1], x.shape[:-1])


def sum_of_products(a, b):
    return lanes(lambda lane, i, w: fma(a[..., i:i + w], b[..., i:i + w], lane), a.shape[-1],
                 np.broadcast_shapes(a.shape, b.shape)[:-1])


COLUMN = 64


def column(step, rows, shape):
    """A sum over rows: step(part, t) adds row t."""
    blocks = []
    for begin in range(0, rows, COLUMN):
        part = np.zeros(shape)
        for t in range(begin, min(begin + COLUMN, rows)):
            part = step(part, t)
        blocks.append(part)
    return r(tree(blocks) + 0.0)


# Functions in fp32.

LOG2E, LN2 = fp32(math.log2(math.e)), fp32(math.log(2))
EXP2 = [float.fromhex(h) for h in ("0x1.44138ap-13", "0x1.5f0890p-10", "0x1.3b2a54p-7",
                                   "0x1.c6af6cp-5", "0x1.ebfbe0p-3", "0x1.62e430p-1", "1")]
LOG2 = [fp32(c) for c in (0.320598900, 0.412198573, 0.577078044, 0.961796701, 2.88539004)]


def horner(coefficients, x):
    p = np.full(x.shape, coefficients[0])
    for c in coefficients[1:]:
        p = fma(p, x, np.full(x.shape, c))
    return p


def exp2(x):
    n = r(r(np.clip(x, -100, 127) + 12582912) - 12582912)
    y = r(horner(EXP2, r(np.clip(x, -100, 127) - n)) * np.exp2(n))
    return np.where(x < -100, 0.0, y)


def log2(x):
    m, e = np.frexp(x)
    m, e = 2 * m, e - 1.0
    high = m > fp32(1.41421354)
    m, e = np.where(high, m / 2, m), np.where(high, e + 1, e)
    s = r(r(m - 1) / r(m + 1))
    return fma(s, horner(LOG2, r(s * s)), e)


def sigmoid(x):
    return r(1 / r(1 + exp2(-r(x * LOG2E))))


# Functions in double: every operation rounds once, nothing is fused. They take scalars and arrays.


def nearest(x):
    return (x + 6755399441055744.0) - 6755399441055744.0


def exact_exp2(x):
    n = nearest(x)
    t = (x - n) * math.log(2)
    term = total = 1.0
    for i in range(1, 17):
        term = (term * t) / i
        total = total + term
    return total * np.exp2(n)


def exact_log2(x):
    m, e = np.frexp(x)
    m, e = 2 * m, e - 1.0
    high = m > 1.4142135623730951
    m, e = np.where(high, m * 0.5, m), np.where(high, e + 1, e)
    s = (m - 1) / (m + 1)
    z, power, total = s * s, s, 0.0
    for n in range(1, 22, 2):
        total = total + power / n
        power = power * z
    return e + (2 * total) * math.log2(math.e)


def exact_ln(x):
    return exact_log2(x) * math.log(2)


def exact_power(base, exponent):
    return exact_exp2(exponent * exact_log2(base))


def series(first, x, n, last):
    term = total = first
    while n <= last:
        term = (term * -(x * x)) / (n * (n - 1))
        total = total + term
        n += 2
    return total


def exact_sin(x, quarter=0):
    k = nearest(x * (2 / math.pi))
    t = (x - k * 1.57079632673412561417) - k * 6.07710050650619224932e-11
    sine, cosine = series(t, t, 3, 17), series(1.0 + 0 * t, t, 2, 18)
    turn = (k + quarter) % 4
    return np.select([turn == 0, turn == 1, turn == 2], [sine, cosine, -sine], -cosine)


def exact_cos(x):
    return exact_sin(x, 1)


def integer_power(base, n):
    result = 1.0
    while n > 0:
        if n & 1:
            result *= base
        base *= base
        n >>= 1
    return result
