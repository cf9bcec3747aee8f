# SPDX-License-Identifier: Apache-2.0
"""Philox4x32-10 and what is drawn from it: initial tensors and permutations (docs/NUMERICS.md,
"Randomness" and "Data order")."""
import hashlib
import math
import numpy as np
from arithmetic import exact_cos, exact_log2, exact_sin, r

INITIAL, DATA_ORDER, SAMPLING = 1, 2, 3  # purposes


def philox(seed, purpose, index, stream=0):
    """The four words of block `index`, or of each block of an array of indices, in uint64."""
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    index = np.asarray(index, dtype=np.uint64)
    c0, c1 = index & low, index >> high
    c2, c3 = np.full_like(index, purpose), np.full_like(index, stream)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p, q = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = (q >> high) ^ c1 ^ np.uint64(k0), q & low
        c2, c3 = (p >> high) ^ c3 ^ np.uint64(k1), p & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def normal(seed, name, shape, deviation):
    """Values of a normal distribution (Box and Muller, 1958) that depend on the tensor's name."""
    count = math.prod(shape)
    name_hash = hashlib.sha256(name.encode()).digest()
    key = seed ^ int.from_bytes(name_hash[:8], "big")
    stream = int.from_bytes(name_hash[8:12], "big")
    w0, w1, w2, w3 = philox(key, INITIAL, np.arange((count + 1) // 2), stream)
    u = (((w1 << np.uint64(32) | w0) >> np.uint64(11)).astype(np.float64) + 1) * 2.0**-53
    a = 2 * math.pi * (((w3 << np.uint64(32) | w2) >> np.uint64(11)).astype(np.float64) * 2.0**-53)
    radius = np.sqrt(-2 * math.log(2) * exact_log2(u))
    pairs = [deviation * radius * exact_cos(a), deviation * radius * exact_sin(a)]
    return r(np.stack(pairs, axis=-1).reshape(-1)[:count].reshape(shape))


def permuted(size, key, i):
    """Where the permutation of `size` things that two words key sends i: a Feistel network over the
    next power of four, walked until inside."""
    half = ((size - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    while True:
        left, right = i >> half, i & mask
        for turn in range(6):
            w0, w1, _, _ = philox(key[0] | key[1] << 32, turn, right)
            left, right = right, left ^ ((int(w1) << 32 | int(w0)) & mask)
        i = left << half | right
        if i < size:
            return i
