"""Machine code of the programs: compiled once a machine, then loaded without the compiler.

Importing Numba's compiler and setting up its types costs 0.4 CPU seconds, loading finished machine
code through LLVM 0.04, which is what makes a merge of small models worth starting. The code lies in
miscible's cache, one file a program, under a key of everything that it depends on: our sources, the
versions of Numba and LLVM, the processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

from miscible.keys import content_key
from miscible.models.cache import cache_root
from miscible.progress import task

DIGEST_BYTES = 32
_FOLDER = Path(__file__).parent
_lock = Lock()


@cache
def program(name: str) -> Callable[..., int]:
    """Return a program as a function of integers, floats and addresses; it runs without the GIL."""
    with _lock:
        symbol, machine_code = _stored(name) or _compiled(name)
        return _bound(symbol, machine_code, name)


def _stored(name: str) -> tuple[str, bytes] | None:
    try:
        content = _place(name).read_bytes()
    except OSError:
        return None
    digest, held = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(held).digest() != digest:
        return None  # cut off by a full disk, say: to run it would end the process
    symbol, _, machine_code = held.partition(b"\0")
    return symbol.decode(), machine_code


def _compiled(name: str) -> tuple[str, bytes]:
    import numba

    from miscible.merge.kernels import elements, programs, ranking

    elsewhere = {"ranks": ranking, "elements": elements}
    with task(f"compile {name} (once a machine)"):
        function: Any = getattr(elsewhere.get(name, programs), name)
        kinds = {"P": numba.types.voidptr, "I": numba.types.int64, "F": numba.types.float64}
        arguments = tuple(kinds[letter] for letter in ARGUMENTS[name])
        compiled = numba.njit(
            numba.types.int64(*arguments), nogil=True, error_model="numpy",
            no_cpython_wrapper=True, no_cfunc_wrapper=True,
        )(function).overloads[arguments]  # fmt: skip
        symbol: str = compiled.fndesc.llvm_func_name
        machine_code: bytes = compiled.library._get_compiled_object()
    held = symbol.encode() + b"\0" + machine_code
    _remember(_place(name), hashlib.sha256(held).digest() + held)
    return symbol, machine_code


def _remember(place: Path, content: bytes) -> None:
    # A cache that cannot be written costs time, not correctness.
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_bytes(content)
        fresh.replace(place)
    except OSError:
        return


def _place(name: str) -> Path:
    return cache_root() / "kernels" / _key() / f"{name}.o"


@cache
def _key() -> str:
    import llvmlite.binding as llvm

    return content_key(
        sources={path.name: path.read_text() for path in sorted(_FOLDER.glob("*.py"))},
        versions=[version("numba"), version("llvmlite")],
        processor=[llvm.get_process_triple(), llvm.get_host_cpu_name(),
                   llvm.get_host_cpu_features().flatten()],
    )  # fmt: skip


@cache
def _linker() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # Numba's arrays count references to memory that it owns. Ours lies elsewhere, so the function
    # that would free it is never called; only its name must be known.
    idle = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value
    llvm.add_symbol("NRT_MemInfo_call_dtor", idle)
    machine = llvm.Target.from_default_triple().create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _bound(symbol: str, machine_code: bytes, name: str) -> Callable[..., int]:
    import llvmlite.binding as llvm

    engine = _linker()
    engine.add_object_file(llvm.ObjectFileRef.from_data(machine_code))
    engine.finalize_object()
    address = engine.get_function_address(symbol)
    # Numba's calling convention: where to put the result, where to put an exception, arguments.
    prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *_kinds(name))
    function = prototype(address)

    def call(*arguments: Any) -> int:
        result, problem = ctypes.c_int64(0), ctypes.c_void_p(0)
        function(ctypes.byref(result), ctypes.byref(problem), *arguments)
        return result.value

    return call


def _kinds(name: str) -> list[Any]:
    letters = {"P": ctypes.c_void_p, "I": ctypes.c_int64, "F": ctypes.c_double}
    return [letters[letter] for letter in ARGUMENTS[name]]


ARGUMENTS = {
    "weighted_sum": "PIPPIIPFIIPPI",
    "values_of": "PIPPIIIIPP",
    "gram": "PIPPIIIIPP",
    "norms": "PIPPIIIPPPIP",
    "histogram": "PIPPIIIPPIP",
    "candidates": "PIPPIIIPPPIPPIPP",
    "ranks": "PIPPIIIPIPPPIPP",
    "consensus": "PIPPIIIPPPIPPIIFPI",
    "elements": "PIPPIIIIPPIIPIIPI",
}
"""Arguments of each program: P a pointer, I an integer, F a float."""
