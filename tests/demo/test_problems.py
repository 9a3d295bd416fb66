"""The grammar of word problems."""

import re

import pytest

from miscible.demo import problems
from miscible.demo.problems import TEMPLATES, draw_problems
from miscible.errors import DatasetError

CALCULATION = re.compile(r"(\d+) ([-+*/]) (\d+) = <<(\d+)([-+*/])(\d+)=(\d+)>>(\d+)")
RANGE = {"a": (2, 3), "b": (4, 5)}
OPERATIONS = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
}


def test_every_calculation_is_right_and_the_last_is_the_answer() -> None:
    for problem in draw_problems(200):
        *steps, last = problem.solution.split("\n")
        assert last == f"#### {problem.answer}"
        for step in steps:
            x, operation, y, *again, result, shown = CALCULATION.search(step).groups()
            assert again == [x, operation, y]
            assert OPERATIONS[operation](int(x), int(y)) == int(result) == int(shown) > 0
        assert int(shown) == problem.answer


def test_wrong_calculations_are_two_wrong_operations_and_one_wrong_result() -> None:
    for problem in draw_problems(200, seed=1):
        right = CALCULATION.fullmatch(problem.calculation).groups()
        wrong = [CALCULATION.fullmatch(text).groups() for text in problem.wrong]
        assert f"{problem.question}\n{problem.solution}".startswith(
            problem.opening + problem.calculation
        )
        assert sum(operation == right[1] for _, operation, *_ in wrong) == 1
        for x, operation, y, *_, result, _shown in wrong:
            true = OPERATIONS[operation](int(x), int(y)) == int(result)
            assert true == (operation != right[1])
            assert 0 < int(result) != problem.answer


def test_no_placeholder_is_left_and_no_question_comes_twice() -> None:
    drawn = draw_problems(300, seed=2)
    for problem in drawn:
        assert not set("{}[]") & set(problem.question + problem.solution + "".join(problem.wrong))
    assert len({problem.question for problem in drawn}) == 300


def test_drawing_is_seeded_and_goes_round_the_templates() -> None:
    assert draw_problems(20, seed=3) == draw_problems(20, seed=3) != draw_problems(20, seed=4)
    assert {p.template for p in draw_problems(len(TEMPLATES))} == {t.name for t in TEMPLATES}
    assert len(TEMPLATES) >= 12


def test_most_steps_chooses_templates() -> None:
    for problem in draw_problems(12, most_steps=1):
        assert problem.solution.count("<<") == 1
    with pytest.raises(DatasetError, match="0 steps"):
        draw_problems(1, most_steps=0)


def test_asking_for_more_than_the_grammar_has_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = problems.TEMPLATES[0]._replace(question="What is {a} times {b}?", numbers=RANGE)
    monkeypatch.setattr(problems, "TEMPLATES", (narrow,))
    with pytest.raises(DatasetError, match="only 4 different problems of 5"):
        draw_problems(5)
