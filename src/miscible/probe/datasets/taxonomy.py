"""Where a corpus's own names for phenomena belong among the five competences.

BLiMP (arXiv 1912.00582, table 1) names a field for each phenomenon; where it names two
(``syntax_semantics``) the first counts. Corpora without fields (Zorro, CLAMS) are placed by the
words in their file names.
"""

from __future__ import annotations

from miscible.probe.contract import COMPETENCES, Competence

_BY_WORD: tuple[tuple[str, str, Competence], ...] = (
    ("npi", "npi_licensing", "semantics"),
    ("quantifier", "quantifiers", "semantics"),
    ("reflexive", "anaphor_agreement", "morphology"),
    ("anaphor", "anaphor_agreement", "morphology"),
    ("binding", "binding", "syntax"),
    ("determiner", "determiner_noun_agreement", "morphology"),
    ("agreement", "subject_verb_agreement", "morphology"),
    ("attractor", "subject_verb_agreement", "morphology"),
    ("irregular", "irregular_forms", "morphology"),
    ("case", "case", "morphology"),
    ("argument", "argument_structure", "syntax"),
    ("ellipsis", "ellipsis", "syntax"),
    ("filler", "filler_gap_dependency", "syntax"),
    ("island", "island_effects", "syntax"),
    ("agrmt", "subject_verb_agreement", "morphology"),
    ("vp_coord", "subject_verb_agreement", "morphology"),
    ("obj_rel", "subject_verb_agreement", "morphology"),
    ("subj_rel", "subject_verb_agreement", "morphology"),
    ("sent_comp", "subject_verb_agreement", "morphology"),
    ("prep_", "subject_verb_agreement", "morphology"),
)
"""Word of a file name, phenomenon, competence; the first word that occurs decides."""

_FALLBACK: Competence = "syntax"


def place(file_stem: str, term: str = "", field: str = "") -> tuple[str, Competence]:
    """Return phenomenon and competence of a file.

    Args:
        file_stem: name of the file without suffix.
        term: the corpus's own name of the phenomenon, if it gives one.
        field: the corpus's own name of the competence, if it gives one.
    """
    by_name = next((entry for entry in _BY_WORD if entry[0] in file_stem.lower()), None)
    phenomenon = term or (by_name[1] if by_name else file_stem.lower())
    stated = field.lower().replace("/", "_").split("_")[0]
    for competence in COMPETENCES:
        if stated == competence:
            return phenomenon, competence
    return phenomenon, by_name[2] if by_name else _FALLBACK
