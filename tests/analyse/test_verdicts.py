from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analyse.tiny import tiny_study
from miscible.analyse import Resampling, StudyTables, Verdict, analyse, findings, overall, verdicts
from miscible.analyse.verdicts import ClaimKind
from report.synthetic import COLLAPSED, small_analysis, small_study

QUICK = Resampling(resamples=300, flips=1999)


def two_tasks(shift: float) -> StudyTables:
    rng = np.random.default_rng(0)
    tasks = {}
    for task, winner in (("t", "a"), ("u", "b")):
        easy = rng.normal(size=100)
        values = {name: easy + 0.1 * rng.normal(size=100) for name in ("base", "a", "b")}
        values[winner] = values[winner] + 1
        values["m"] = easy + shift + 0.1 * rng.normal(size=100)
        tasks[task] = values
    return tiny_study(tasks)


@pytest.mark.parametrize(
    ("shift", "verdict", "code"),
    [(0.8, Verdict.BETTER, 0), (0.2, Verdict.WORSE, 1), (0.5, Verdict.INCONCLUSIVE, 3)],
)
def test_the_mean_over_tasks_decides(shift: float, verdict: Verdict, code: int) -> None:
    found = Verdict(overall(two_tasks(shift), options=QUICK)["verdict"].iloc[0])
    assert found is verdict
    assert found.exit_code == code


def test_a_merge_equal_to_its_parents_is_seldom_called_better_or_worse() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(60):
        easy = rng.normal(size=60)
        values = {name: easy + 0.5 * rng.normal(size=60) for name in ("a", "b", "m")}
        row = overall(tiny_study({"t": values}), options=QUICK).iloc[0]
        wrong += row["verdict"] != Verdict.INCONCLUSIVE
    assert wrong / 60 <= 0.12


def test_bits_and_accuracies_are_averaged_without_units() -> None:
    rows = small_analysis().overall.set_index("model")
    assert rows.loc["ties-0.6", "verdict"] == Verdict.BETTER
    assert rows.loc[COLLAPSED, "verdict"] == Verdict.WORSE
    assert set(rows["tasks"]) == {5}


def test_sentences_rest_on_numbers() -> None:
    study, analysis = small_study(), small_analysis()
    found = {verdict.model: verdict for verdict in verdicts(study, analysis)}
    ties = found["ties-0.6"]
    assert "better than both parents" in ties.headline
    kinds = {claim.kind for claim in ties.claims}
    assert {ClaimKind.SURPASSES, ClaimKind.BEATS_BASE, ClaimKind.OFF_THE_LINE} <= kinds
    beats = next(c for c in ties.claims if c.datasets == ("python_text",))
    row = analysis.behaviour.set_index(["model", "reference", "dataset"]).loc[
        ("ties-0.6", "base", "python_text")
    ]
    assert f"{row['difference']:+.2f} [{row['low']:.2f}, {row['high']:.2f}]" in beats.text
    assert "of code's gain" in beats.text


def test_what_is_not_known_is_said() -> None:
    linear = next(v for v in verdicts(small_study(), small_analysis()) if v.model == "linear-0.5")
    open_ = next(claim for claim in linear.claims if claim.kind is ClaimKind.UNRESOLVED)
    assert "200 items would usually miss" in open_.text
    assert "blimp" in open_.datasets


def test_a_collapsed_merge_is_called_so_first() -> None:
    broken = next(v for v in verdicts(small_study(), small_analysis()) if v.model == COLLAPSED)
    assert broken.claims[0].kind is ClaimKind.COLLAPSED


def test_the_best_come_first() -> None:
    held = [verdict.verdict for verdict in verdicts(small_study(), small_analysis())]
    order = [Verdict.BETTER, Verdict.INCONCLUSIVE, Verdict.WORSE]
    assert held == sorted(held, key=order.index)


def test_findings_tell_the_study_in_a_few_sentences() -> None:
    study, analysis = small_study(), small_analysis()
    sentences = findings(study, analysis, verdicts(study, analysis))
    assert 4 <= len(sentences) <= 8
    assert "of 9 merges" in sentences[0]
    assert any("dare_ties-0.9" in sentence for sentence in sentences)


@pytest.mark.parametrize("lacking", ["items", "scores", "doses"])
def test_a_study_that_lacks_something_is_still_told(lacking: str) -> None:
    study = small_study()
    bare = dataclasses.replace(study, **{lacking: getattr(study, lacking).iloc[:0]})
    analysis = analyse(bare, QUICK)
    assert len(verdicts(bare, analysis)) == 9
    assert findings(bare, analysis, verdicts(bare, analysis))


def test_one_parent_and_no_base_read_well() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=60)
    study = tiny_study({"t": {"a": a, "m": a + 1 + 0.1 * rng.normal(size=60)}})
    verdict = verdicts(study, analyse(study, QUICK))[0]
    assert "better than its parent" in verdict.headline
    assert "best" not in verdict.headline


def test_columns_that_lost_their_types_mean_the_same() -> None:
    study, analysis = small_study(), small_analysis()
    frames = {
        name: getattr(study, name).astype(object).where(getattr(study, name).notna(), None)
        for name in ("models", "scores", "items", "doses")
    }
    loose = dataclasses.replace(study, **frames)
    again = analyse(loose, analysis.options)
    assert findings(loose, again, verdicts(loose, again)) == findings(
        study, analysis, verdicts(study, analysis)
    )


def test_a_task_that_one_parent_lacks_does_not_count() -> None:
    rng = np.random.default_rng(3)
    easy = rng.normal(size=100)
    near = {name: easy + 0.1 * rng.normal(size=100) for name in ("a", "b", "m")}
    far = {"a": easy, "m": easy + 5 + 0.1 * rng.normal(size=100)}
    both = tiny_study({"t": near, "u": far})
    alone = tiny_study({"t": near})
    columns = ["verdict", "difference", "tasks"]
    found = [overall(study, options=QUICK)[columns].iloc[0] for study in (both, alone)]
    assert found[0].equals(found[1])
    assert found[0]["verdict"] == Verdict.INCONCLUSIVE
    (merge,) = verdicts(both, analyse(both, QUICK))
    texts = [claim.text for claim in merge.claims]
    assert any("on u" in text and "no items to compare with b" in text for text in texts)
    assert not any(claim.kind is ClaimKind.SURPASSES for claim in merge.claims)
