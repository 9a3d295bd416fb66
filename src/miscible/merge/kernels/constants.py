"""Numbers on which the programs and their callers agree."""

from __future__ import annotations

BLOCK = 1024
"""Elements that are worked on at a time: rows of this length stay in the first-level cache."""
FETCH = 32 * BLOCK
"""Elements of a model that a program reads from its file at a time, for the second-level cache."""
LANES = 32
"""Sums are added up in so many lanes, so that they do not depend on the processor's vectors."""

F32, BF16, F16 = 0, 1, 2
"""Codes of the dtypes that programs read and write."""
DELTA = 8
"""Added to a code: the input is a difference from the base already, in float32."""
EXACT = 16
"""Added to a code: the input was computed and is not rounded to a recipe's dtype any more."""

KEEP_ALL, KEEP_LARGEST, KEEP_RANDOM, KEEP_BAND, KEEP_MASK = 0, 1, 2, 3, 4
"""Kinds of sparsifiers."""
SETTINGS = 4
"""Numbers of settings that a sparsifier has."""
HIGH = 0x85EBCA6B
"""What an index's upper half is multiplied by before it joins the first key of a draw."""
SUM, SIGNS = 0, 1
"""Kinds of consensus."""
BINS = 1 << 16
"""Bins of a histogram of magnitudes: the upper 16 bits of a float32 without its sign."""
RANK_BINS = (12 << 7) + 1
"""Bins of a row's magnitudes: 128 for each of twelve powers of two below the largest."""
LARGEST_BITS = 0x7FFFFFFF
"""No finite magnitude has bits as large."""
