"""Where data sets belong: BLiMP as it says itself, Holmes as the benchmark says."""

from __future__ import annotations

from pathlib import Path

import pytest

from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import Competence
from miscible.probe.datasets.taxonomy import place, place_of_any

HOLMES: dict[Competence, tuple[str, ...]] = {
    "morphology": (
        "blimp-anaphor_gender_agreement", "blimp-distractor_agreement_relative_clause",
        "blimp-irregular_past_participle_verbs",
        "blimp-irregular_plural_subject_verb_agreement_1",
        "zorro-agreement_determiner_noun-between_neighbors",
    ),
    "syntax": (
        "blimp-adjunct_island", "blimp-drop_argument", "blimp-existential_there_object_raising",
        "blimp-inchoative", "blimp-ellipsis_n_bar_1", "const_node_length", "dep", "pos", "upos",
        "context-object_number", "context-verb_causative", "senteval-bigram_shift",
        "senteval-top_constituents", "zorro-agreement_subject_verb-in_simple_question",
        "zorro-anaphor_agreement-pronoun_gender", "zorro-case-subjective_pronoun",
        "zorro-filler-gap-wh_question_object", "zorro-local_attractor-in_question_with_aux",
    ),
    "semantics": (
        "arg-is-kind", "blimp-existential_there_quantifiers_1", "context-subject_gender",
        "context-verb_tense", "cwi", "event_structure-is-telic", "factuality", "metaphor-vua_pos",
        "ner", "passive", "pred-is-dynamic", "protoroles-change_of_state", "srl", "time",
        "relation-classification", "senteval-coordination_inversion", "senteval-word_content",
        "sentiment-sentence", "synonym-antonym-hard", "wordsense",
        "zorro-npi_licensing-only_npi_licensor",
    ),
    "discourse": (
        "bridging-sentence", "coref", "discourse-connective", "drt-implicit-coarse-class",
        "gum-rst-edu-depth", "next-sentence-prediction", "ordering", "rst-edu-type",
    ),
    "reasoning": (
        "SemAntoNeg", "bioscope-negation-span-classify", "olmpics-coffee_cats_quantifiers",
        "olmpics-size_comparison", "sherlock-negation", "speculation-org",
    ),
}  # fmt: skip


@pytest.mark.parametrize("competence", HOLMES)
def test_competences_of_holmes(competence: Competence) -> None:
    assert {name: place_of_any(name)[1] for name in HOLMES[competence]} == dict.fromkeys(
        HOLMES[competence], competence
    )


def test_blimp_within_holmes_is_where_blimp_puts_it(shared_data: Path) -> None:
    path = shared_data / "probing/blimp/BLiMP.zip"
    for dataset in open_datasets([f"minimal_pairs:{path}"], SourceOptions(limit=1)):
        title = dataset.name.split("/")[-1]
        phenomenon, competence = place_of_any(f"blimp-{title}")
        if dataset.phenomenon != "s-selection":
            assert phenomenon == dataset.phenomenon
        if not title.endswith("npi_scope"):  # syntax there, like no other polarity item
            assert competence == dataset.competence, title


def test_what_nobody_knows() -> None:
    assert place_of_any("Xyz", "abc") == place("Xyz") == ("xyz", "syntax")
    assert place_of_any("xyz", "srl") == ("semantic_roles", "semantics")
    assert place("x", "term", "semantics") == ("term", "semantics")
