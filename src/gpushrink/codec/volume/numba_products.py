"""Products of few long rows, compiled.

Doubles are added in whatever order is fast, which is safe here alone: every sum of `products.EXACT_LENGTH` products is
one of whole numbers up to 2^53. Callers add those as integers.
"""
# fmt: off
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from gpushrink.codec.compiled import compiled

__all__ = ["BLOCK", "add_products"]

# Sums of whole numbers below 2^53 are the same in any order, which is all that these flags allow.
_reordered = compiled(boundscheck=False, fastmath={"reassoc", "contract"})
# Columns laid out side by side: they stay in the nearest cache.
BLOCK = 64


@_reordered
def add_products(table, weighed, sums):
    """Add the products of all pairs of rows, four columns of the lower triangle at a time."""
    width = len(table)
    for i in range(width):
        row = weighed[i]
        for j in range(0, i + 1, 4):
            # Rows past the last are zeros that nobody reads.
            a, b, c, d = table[j], table[min(j + 1, i)], table[min(j + 2, i)], table[min(j + 3, i)]
            ta = tb = tc = td = 0.0
            for s in range(BLOCK):
                x = row[s]
                ta += x * a[s]
                tb += x * b[s]
                tc += x * c[s]
                td += x * d[s]
            sums[i, j] += ta
            if j + 1 <= i:
                sums[i, j + 1] += tb
            if j + 2 <= i:
                sums[i, j + 2] += tc
            if j + 3 <= i:
                sums[i, j + 3] += td
