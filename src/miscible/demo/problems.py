"""Arithmetic word problems with worked solutions, drawn from a small grammar of our own.

The answers are written as GSM8K writes them (`3 * 4 = <<3*4=12>>12`, last line `#### 12`), so that
a model trained on that data set is at home, while no problem is one that it can have seen.
"""

import random
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from miscible.errors import DatasetError

_OPERATIONS: Final = "+-*/"
_ATTEMPTS: Final = 1_000


class Problem(NamedTuple):
    """A question, the steps that solve it, and three wrong ways to do the last calculation.

    `calculation` is the last step's, as it stands there. Of the wrong ones two have a wrong
    operation, and one has the right operation and a wrong result.
    """

    template: str
    question: str
    steps: tuple[str, ...]
    answer: int
    calculation: str
    wrong: tuple[str, str, str]

    @property
    def solution(self) -> str:
        """The worked solution; its last line is `#### answer`."""
        return "\n".join([*self.steps, f"#### {self.answer}"])

    @property
    def opening(self) -> str:
        """Question and solution up to the last calculation."""
        *before, last = self.steps
        return "\n".join([self.question, *before, last.partition(self.calculation)[0]])


class Template(NamedTuple):
    """A family of problems.

    `numbers` gives the range of every letter. A step is a sentence with one calculation in
    brackets, over those letters and the results `r1`, `r2`, ... of earlier steps; draws whose
    results are not whole and positive are thrown away.
    """

    name: str
    question: str
    steps: tuple[str, ...]
    numbers: dict[str, tuple[int, int]]


_PEOPLE: Final = (
    ("Amara", "She", "her"), ("Bao", "He", "his"), ("Clara", "She", "her"), ("Dmitri", "He", "his"),
    ("Elif", "She", "her"), ("Farid", "He", "his"), ("Greta", "She", "her"), ("Hugo", "He", "his"),
    ("Ines", "She", "her"), ("Jonas", "He", "his"), ("Keiko", "She", "her"), ("Luis", "He", "his"),
    ("Maya", "She", "her"), ("Nils", "He", "his"), ("Oksana", "She", "her"), ("Pavel", "He", "his"),
)  # fmt: skip
_THINGS: Final = (
    "apples", "pencils", "marbles", "stickers", "cookies", "shells", "buttons", "candles", "cards",
    "oranges", "beads", "muffins", "stamps", "lemons", "ribbons", "postcards",
)  # fmt: skip

TEMPLATES: Final = (
    Template(
        "boxes",
        "{name} has {a} boxes with {b} {things} in each box. How many {things} does {name} have?",
        ("{She} has [a * b] {things}.",),
        {"a": (3, 9), "b": (3, 12)},
    ),
    Template(
        "gift",
        "{name} has {a} {things} and gives {b} of them to {friend}. "
        "How many {things} does {name} have left?",
        ("{She} has [a - b] {things} left.",),
        {"a": (12, 60), "b": (3, 30)},
    ),
    Template(
        "shared",
        "{name} shares {a} {things} equally among {b} friends. "
        "How many {things} does each friend get?",
        ("Each friend gets [a / b] {things}.",),
        {"a": (12, 72), "b": (3, 9)},
    ),
    Template(
        "found",
        "{name} had {a} {things} and found {b} more. How many {things} does {name} have now?",
        ("{She} has [a + b] {things} now.",),
        {"a": (8, 60), "b": (5, 40)},
    ),
    Template(
        "boxes_and_gift",
        "{name} buys {a} bags of {things}. Each bag holds {b} {things}. {She} gives {c} {things} "
        "to {friend}. How many {things} does {name} have left?",
        ("{She} buys [a * b] {things}.", "After the gift {she} has [r1 - c] {things} left."),
        {"a": (3, 9), "b": (4, 12), "c": (5, 20)},
    ),
    Template(
        "two_earners",
        "{name} picks {a} {things} an hour and {friend} picks {b} {things} an hour. "
        "How many {things} do they pick together in {c} hours?",
        ("Together they pick [a + b] {things} an hour.", "In {c} hours that is [r1 * c] {things}."),
        {"a": (4, 20), "b": (3, 20), "c": (2, 8)},
    ),
    Template(
        "money_left",
        "{name} has ${a}. {She} buys {b} {things} for ${c} each. How much money is left?",
        ("The {things} cost $[b * c].", "{name} has $[a - r1] left."),
        {"a": (20, 90), "b": (2, 9), "c": (2, 8)},
    ),
    Template(
        "trays",
        "A baker makes {a} trays of {b} muffins and packs all of them into boxes of {c}. "
        "How many boxes does the baker fill?",
        ("The baker makes [a * b] muffins.", "They fill [r1 / c] boxes."),
        {"a": (3, 9), "b": (4, 12), "c": (3, 8)},
    ),
    Template(
        "wages",
        "{name} earns ${a} an hour. {She} works {b} hours a day for {c} days. "
        "How many dollars does {name} earn?",
        ("{She} works [b * c] hours.", "{She} earns $[a * r1]."),
        {"a": (8, 20), "b": (3, 8), "c": (2, 6)},
    ),
    Template(
        "pages",
        "A book has {a} pages. {name} reads {b} pages a day for {c} days. "
        "How many pages are left to read?",
        ("{She} reads [b * c] pages.", "There are [a - r1] pages left."),
        {"a": (90, 300), "b": (8, 30), "c": (3, 9)},
    ),
    Template(
        "times_as_many",
        "{friend} has {a} {things}. {name} has {b} times as many {things} as {friend}. "
        "How many {things} do they have together?",
        ("{name} has [a * b] {things}.", "Together they have [a + r1] {things}."),
        {"a": (4, 20), "b": (2, 6)},
    ),
    Template(
        "savings",
        "{name} saves ${a} every week. A bicycle costs ${b}, and {her} grandmother gives {name} "
        "${c}. How many weeks does {name} need to save?",
        ("{name} needs to save $[b - c].", "That takes [r1 / a] weeks."),
        {"a": (4, 15), "b": (80, 240), "c": (10, 60)},
    ),
    Template(
        "bus",
        "A bus leaves with {a} passengers. At the first stop {b} get off and {c} get on. "
        "How many passengers are on the bus then?",
        ("After {b} get off there are [a - b] passengers.", "Then there are [r1 + c] passengers."),
        {"a": (20, 50), "b": (3, 19), "c": (2, 20)},
    ),
    Template(
        "garden",
        "A garden has {a} rows of {b} plants. {c} plants die in the frost and {name} plants {d} "
        "new ones. How many plants are there now?",
        (
            "There were [a * b] plants at first.",
            "After the frost there were [r1 - c] plants.",
            "Now there are [r2 + d] plants.",
        ),
        {"a": (4, 9), "b": (5, 12), "c": (4, 15), "d": (3, 12)},
    ),
    Template(
        "party",
        "{name} bakes {a} cakes and cuts each into {b} slices. {c} guests eat {d} slices each. "
        "How many slices are left?",
        (
            "There are [a * b] slices.",
            "The guests eat [c * d] slices.",
            "So [r1 - r2] slices are left.",
        ),
        {"a": (3, 8), "b": (6, 12), "c": (5, 12), "d": (2, 3)},
    ),
    Template(
        "tickets",
        "Tickets cost ${a} for adults and ${b} for children. {name} buys {c} adult tickets and "
        "{d} child tickets. How many dollars does {name} pay?",
        (
            "The adult tickets cost $[a * c].",
            "The child tickets cost $[b * d].",
            "{She} pays $[r1 + r2].",
        ),
        {"a": (9, 20), "b": (3, 8), "c": (2, 5), "d": (2, 6)},
    ),
)  # fmt: skip


def draw_problems(count: int, *, seed: int = 0, most_steps: int = 3) -> list[Problem]:
    """Return `count` different problems, going round the templates with at most `most_steps`.

    The same arguments give the same problems on every machine and Python version.

    Raises:
        DatasetError: the grammar has fewer different problems, or `most_steps` is below 1.
    """
    templates = [template for template in TEMPLATES if len(template.steps) <= most_steps]
    if not templates:
        raise DatasetError(f"No problem template has {most_steps} steps or fewer.")
    rng, seen, drawn = random.Random(seed), set[str](), list[Problem]()
    for attempt in range(_ATTEMPTS + 10 * count):
        if len(drawn) == count:
            break
        problem = _fill(templates[attempt % len(templates)], rng)
        if problem.question not in seen:
            seen.add(problem.question)
            drawn.append(problem)
    if len(drawn) < count:
        raise DatasetError(f"The grammar gave only {len(drawn)} different problems of {count}.")
    return drawn


def _fill(template: Template, rng: random.Random) -> Problem:
    (name, she, her), (friend, _, _) = rng.sample(_PEOPLE, 2)
    words = {
        "name": name, "She": she, "she": she.lower(), "her": her,
        "friend": friend, "things": rng.choice(_THINGS),
    }  # fmt: skip
    for _ in range(_ATTEMPTS):
        values = {key: rng.randint(*bounds) for key, bounds in template.numbers.items()}
        lines = list(_worked(template, values))
        if len(lines) == len(template.steps):
            break
    else:
        raise DatasetError(f"Template {template.name!r} has no whole, positive solution.")
    left, operation, right = _calculation(template.steps[-1])
    words |= {key: str(values[key]) for key in template.numbers}
    return Problem(
        template=template.name,
        question=template.question.format(**words),
        steps=tuple(line.format(**words) for line in lines),
        answer=values[f"r{len(lines)}"],
        calculation=_write(values[left], operation, values[right], values[f"r{len(lines)}"]),
        wrong=_wrong_calculations(values[left], operation, values[right], rng),
    )


def _worked(template: Template, values: dict[str, int]) -> Iterator[str]:
    """Yield the steps with their calculations done, adding results to `values`; stop at a bad one.

    Bad are results that are not whole and positive, and results that repeat an operand: they would
    make a step look idle.
    """
    for number, step in enumerate(template.steps, start=1):
        left, operation, right = _calculation(step)
        x, y = values[left], values[right]
        result = _apply(operation, x, y)
        if result is None or result in (x, y):
            return
        values[f"r{number}"] = result
        yield re.sub(r"\[.*\]", _write(x, operation, y, result), step)


def _write(x: int, operation: str, y: int, result: int) -> str:
    return f"{x} {operation} {y} = <<{x}{operation}{y}={result}>>{result}"


def _calculation(step: str) -> tuple[str, str, str]:
    match = re.search(r"\[(\w+) ([-+*/]) (\w+)\]", step)
    assert match is not None, step
    left, operation, right = match.groups()
    return left, operation, right


def _apply(operation: str, x: int, y: int) -> int | None:
    """The result where it is whole and positive."""
    if operation == "/":
        return x // y if y and x % y == 0 else None
    result = {"+": x + y, "-": x - y, "*": x * y}[operation]
    return result if result > 0 else None


def _wrong_calculations(
    x: int, right_operation: str, y: int, rng: random.Random
) -> tuple[str, str, str]:
    """Two wrong operations and a wrong result, in a random order."""
    answer = _apply(right_operation, x, y)
    assert answer is not None
    mistakes = []
    for operation in _OPERATIONS:
        # Whichever way round works: sums and products always do, so there are two at least.
        for first, second in ((x, y), (y, x)):
            result = _apply(operation, first, second)
            if operation != right_operation and result is not None and result != answer:
                mistakes.append(_write(first, operation, second, result))
                break
    slip = rng.choice([slip for slip in (1, -1, 2, -2, 10, -10) if answer + slip > 0])
    chosen = [*rng.sample(mistakes, 2), _write(x, right_operation, y, answer + slip)]
    rng.shuffle(chosen)
    return chosen[0], chosen[1], chosen[2]
