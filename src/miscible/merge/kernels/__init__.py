"""Compiled loops over raw tensor bytes, for the operations that have a streamed form.

`programs` holds the loops as Python that Numba compiles; `native` compiles each once a machine and
from then on loads the machine code without the compiler; `calls` are the typed functions that the
engine uses. Input is float32, float16 or bfloat16 as it lies in the file; arithmetic is float32,
without contraction, so that results do not depend on the processor; output is rounded once.
"""
