"""Merge the same files with mergekit and with miscible, as whole processes, and compare.

    python benchmarks/merge/models.py FOLDER 0.5B --models 2
    python benchmarks/merge/against_mergekit.py FOLDER 0.5B --mergekit VENV

The two take turns on files in the page cache; medians are told. mergekit lives in a virtual
environment of its own, which is made with pip where it is missing, and runs with its defaults on
the CPU. Wall time is held against reading the same inputs and writing a file of the output's size.
What was measured is kept in a JSON file after each run; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

from agreement import compare
from processes import FailedError, Results, machine, remove, timed, warm
from recipes import inputs_of, recipe_of, write_recipe
from summary import METHODS, RANDOM, print_tables, write_summary

from models import SHAPES, make_models

HERE = Path(__file__).parent
REQUIREMENT = "mergekit==0.1.5"
SLOW = 60.0
"""CPU seconds from which on mergekit is run once only."""
COPIES = ("copy", "copy-fsync")
OURS = {"miscible-1": 1, "miscible-2": 2}


class Comparison:
    """The runs of one size of models.

    Args:
        root: folder of the models; outputs are written beside them.
        size: name of their shape.
        mergekit: the virtual environment.
        repeats: runs of each program.
        limit: seconds that one run may take.
    """

    def __init__(
        self, root: Path, size: str, mergekit: Path, results: Results, repeats: int, limit: float
    ) -> None:
        self.root, self.size, self.mergekit = root, size, mergekit
        self.results, self.repeats, self.limit = results, repeats, limit
        self.base, *self.tuned = make_models(root, size, 2)

    def warm_up(self) -> None:
        """Run both programs once on tiny models: bytecode and machine code are made then."""
        base, *tuned = make_models(self.root, "tiny", 2)
        for method in METHODS:
            path = write_recipe(self.root / "warm.yml", recipe_of(method, base, tuned))
            for program in ("miscible-1", "mergekit"):
                if program != "mergekit" or method == METHODS[0]:
                    timed(self._command(program, path, [], self._out("warm")), limit=self.limit)
                    remove(self._out("warm"))

    def measure(self, method: str, deadline: float) -> None:
        """Do what is missing of a method's runs, as long as there is time."""
        recipe = recipe_of(method, self.base, self.tuned)
        path = write_recipe(self.root / f"{self.size}-{method}.yml", recipe)
        inputs = [folder / "model.safetensors" for folder in inputs_of(recipe)]
        for program in self._due(method):
            if time.monotonic() > deadline:
                return
            warm(inputs)
            out = self._out(f"{self.size}-{method}-{program}")
            remove(out)
            # Memory that the program before gave back to the host of a virtual machine costs
            # whoever asks for it next: a copy that is not counted asks first.
            timed(self._command("copy", path, inputs, out), limit=self.limit)
            remove(out)
            try:
                run = timed(self._command(program, path, inputs, out), limit=self.limit)
            except FailedError as error:
                print(f"{method}, {program}: {error}", file=sys.stderr)
                self.results.put(str(error).splitlines()[0], "failed", method, program)
                continue
            held = self.results.get("runs", method, program) or []
            self.results.put([*held, list(run)], "runs", method, program)
            print(f"{method:16}{program:12}{run.wall:8.2f} s {run.cpu:8.2f} CPU s "
                  f"{run.peak / 1e6:7.0f} MB  load {run.load:.1f}", flush=True)  # fmt: skip
            if program not in ("mergekit", "miscible-2"):
                remove(out)
        self._compare(method)

    def _due(self, method: str) -> Iterator[str]:
        # Programs take turns, so that whatever else the machine does meets all of them.
        for turn in range(self.repeats):
            for program in (*OURS, *COPIES, "mergekit"):
                held = self.results.get("runs", method, program) or []
                failed = self.results.get("failed", method, program)
                slow = program == "mergekit" and held and held[0][1] > SLOW
                if len(held) <= turn and not slow and not failed:
                    yield program

    def _compare(self, method: str) -> None:
        ours, theirs = (
            self._out(f"{self.size}-{method}-{program}") for program in ("miscible-2", "mergekit")
        )
        wanted = method not in RANDOM and self.results.get("agreement", method) is None
        if wanted and ours.is_dir() and theirs.is_dir():
            self.results.put(compare(ours, theirs)._asdict(), "agreement", method)
        if self.results.get("agreement", method) or method in RANDOM:
            remove(ours)
            remove(theirs)

    def _command(
        self, program: str, recipe: Path, inputs: list[Path], out: Path
    ) -> list[str | Path]:
        own = Path(sys.executable).parent
        if program == "mergekit":
            script = self.mergekit / "bin" / "mergekit-yaml"
            return [script, recipe, out, "--no-copy-tokenizer", "--quiet"]
        if program in OURS:
            threads = str(OURS[program])
            return [own / "miscible", "merge", recipe, out, "--threads", threads,
                    "--format", "quiet"]  # fmt: skip
        durable = ["--fsync"] if program == "copy-fsync" else []
        python = [sys.executable, "-S", "-E", HERE / "copying.py", "--threads", "2"]
        out.mkdir(parents=True)
        return [*python, *durable, *inputs, out / "copy"]

    def _out(self, name: str) -> Path:
        return self.root / "out" / name


def make_environment(folder: Path) -> str:
    """Return mergekit's version in a virtual environment, which is made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {REQUIREMENT} into {folder}")
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", REQUIREMENT], check=True)
    names = ("mergekit", "torch", "transformers", "safetensors")
    program = f"from importlib.metadata import version as v; print(*[v(n) for n in {names}])"
    found = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True)
    return ", ".join(f"{n} {v}" for n, v in zip(names, found.stdout.split(), strict=True))


def main() -> None:
    """Measure what is missing, then print and write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the models; made where they are missing")
    parser.add_argument("size", choices=SHAPES)
    parser.add_argument("--mergekit", type=Path, default=Path("mergekit-venv"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1200, help="seconds of one run")
    parser.add_argument("--minutes", type=float, default=120, help="no run is begun after that")
    parser.add_argument("--results", type=Path, help="default: results-SIZE.json beside this file")
    parser.add_argument("--figure", type=Path, help="SVG; default: beside the results")
    asked = parser.parse_args()

    path = asked.results or HERE / f"results-{asked.size}.json"
    deadline = time.monotonic() + 60 * asked.minutes
    facts = {**machine(), "mergekit": make_environment(asked.mergekit)}
    results = Results(path, size=asked.size, elements=SHAPES[asked.size].elements, machine=facts)
    comparison = Comparison(
        asked.folder.resolve(), asked.size, asked.mergekit.resolve(), results, asked.repeats,
        asked.limit,
    )  # fmt: skip
    comparison.warm_up()
    for method in asked.methods:
        comparison.measure(method, deadline)
    print_tables(results.held)
    write_summary(results.held, path.with_suffix(".md"), asked.figure or path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
