#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What 1.58 bits are, and what else few bits could mean: python3 bits.py

A digit with three values carries log2(3) = 1.585 bits. And numbers that spread over decades are better served by steps of equal
ratio (sign and logarithm) than by steps of equal size (sign and magnitude), while those near each other are not."""
import math

import numpy as np

print("three values: %.4f bits. In whole bits: 2, which wastes %.0f %%." % (math.log2(3), 100 * (2 / math.log2(3) - 1)))
for digits in (1, 3, 5, 10, 40):
    bits = math.ceil(digits * math.log2(3))
    print("  %2d digits together: 3^%-2d fits %2d bits, %.4f a digit" % (digits, digits, bits, bits / digits))
digits = [2, 0, 1, 1, 2]                     # five digits are a byte, since 3^5 = 243 < 256
byte = sum(d * 3 ** i for i, d in enumerate(digits))
print("five digits in a byte: %s -> %d -> %s" % (digits, byte, [byte // 3 ** i % 3 for i in range(5)]))


def magnitude(x, bits):
    """Sign, and the size in 2^(bits - 1) equal steps."""
    top, n = np.abs(x).max(), 2 ** (bits - 1) - 1
    return np.sign(x) * np.round(np.abs(x) / top * n) / n * top


def logarithm(x, bits):
    """Sign, and the exponent of two: half the size with each step down."""
    top, n = np.abs(x).max(), 2 ** (bits - 1) - 1
    return np.sign(x) * top * 2.0 ** -np.clip(np.round(-np.log2(np.abs(x) / top)), 0, n)


random = np.random.default_rng(1)
for name, x in (("weights, about normal", random.normal(size=10000)),
                ("spread over decades  ", random.choice([-1, 1], 10000) * 10 ** random.uniform(-4, 0, 10000))):
    for bits in (4, 6):
        # How far off a number is, of itself: the median over all.
        error = [np.median(np.abs(code(x, bits) - x) / np.abs(x)) for code in (magnitude, logarithm)]
        print("%s  %d bits: equal steps off by %3.0f %%, equal ratios by %3.0f %%" % (name, bits, *(100 * e for e in error)))
