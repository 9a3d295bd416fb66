"""Where a corpus's own names for phenomena belong among the five competences.

BLiMP (arXiv 1912.00582, table 1) names a field for each phenomenon; where it names two
(``syntax_semantics``) the first counts. Corpora without fields (Zorro, CLAMS) are placed by the
words in their file names, data sets of Holmes (arXiv 2404.18923) by the names that it gives them.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from miscible.probe.dataset import COMPETENCES, Competence

_BY_WORD: tuple[tuple[str, str, Competence], ...] = (
    ("npi", "npi_licensing", "semantics"),
    ("quantifier", "quantifiers", "semantics"),
    ("reflexive", "anaphor_agreement", "morphology"),
    ("anaphor", "anaphor_agreement", "morphology"),
    ("binding", "binding", "syntax"),
    ("principle_a", "binding", "syntax"),
    ("determiner", "determiner_noun_agreement", "morphology"),
    ("sv-", "subject_verb_agreement", "morphology"),  # MultiBLiMP
    ("sp-", "subject_verb_agreement", "morphology"),
    ("noun_phrase_agreement", "noun_phrase_agreement", "morphology"),
    ("np_agreement", "noun_phrase_agreement", "morphology"),
    ("classifier-noun", "classifier_noun_agreement", "morphology"),  # SLING
    ("definitenesseffect", "definiteness", "semantics"),
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

_BY_PATTERN: tuple[tuple[str, str, Competence], ...] = (
    # Of BLiMP, what the words above do not tell.
    ("blimp-*raising*", "control_raising", "syntax"),
    ("blimp-*extraction", "island_effects", "syntax"),
    ("blimp-*structure-constraint*", "island_effects", "syntax"),
    ("blimp-wh-questions-*", "filler_gap_dependency", "syntax"),
    ("blimp-wh-vs-*", "filler_gap_dependency", "syntax"),
    ("blimp-animate-subject-*", "argument_structure", "syntax"),
    ("blimp-causative", "argument_structure", "syntax"),
    ("blimp-inchoative", "argument_structure", "syntax"),
    ("blimp-*transitive", "argument_structure", "syntax"),
    ("blimp-passive-*", "argument_structure", "syntax"),
    # Of Zorro, what Holmes places otherwise than BLiMP does.
    ("zorro-agreement-subject-verb-*", "subject_verb_agreement", "syntax"),
    ("zorro-anaphor-*", "anaphor_agreement", "syntax"),
    ("zorro-case-*", "case", "syntax"),
    ("zorro-local-attractor-*", "local_attractor", "syntax"),
    # Words in their sentence.
    ("pos", "part_of_speech", "syntax"),
    ("upos", "part_of_speech", "syntax"),
    ("xpos", "part_of_speech", "syntax"),
    ("dep", "dependency_parsing", "syntax"),
    ("deprel", "dependency_parsing", "syntax"),
    ("const*", "constituent_parsing", "syntax"),
    ("ner", "named_entities", "semantics"),
    ("srl", "semantic_roles", "semantics"),
    ("*semantic-role*", "semantic_roles", "semantics"),
    ("protoroles-*", "semantic_proto_roles", "semantics"),
    ("relation-classification", "relations", "semantics"),
    ("wordsense", "word_sense", "semantics"),
    ("word-sense", "word_sense", "semantics"),
    ("cwi", "complex_words", "semantics"),
    ("complex-word*", "complex_words", "semantics"),
    ("synonym-antonym*", "synonyms_antonyms", "semantics"),
    ("metaphor*", "metaphor", "semantics"),
    ("factuality*", "factuality", "semantics"),
    ("arg-is-*", "genericity", "semantics"),
    ("pred-is-*", "genericity", "semantics"),
    ("genericity*", "genericity", "semantics"),
    ("event-structure*", "event_structure", "semantics"),
    ("time", "time", "semantics"),
    ("passive", "passive", "semantics"),
    ("sentiment*", "sentiment", "semantics"),
    # Sentences (SentEval, arXiv 1805.01070, and controlled contexts).
    ("*odd-man-out", "semantic_odd_man_out", "semantics"),
    ("*coordination-inversion", "coordination_inversion", "semantics"),
    ("*word-content", "word_content", "semantics"),
    ("*past-present", "tense", "semantics"),
    ("*tense", "tense", "semantics"),
    ("*bigram-shift", "bigram_shift", "syntax"),
    ("*sentence-length", "sentence_length", "syntax"),
    ("*top-constituents", "top_constituents", "syntax"),
    ("*tree-depth", "tree_depth", "syntax"),
    ("*obj-number", "object_number", "syntax"),
    ("*object-number", "object_number", "syntax"),
    ("*subj-number", "subject_number", "syntax"),
    ("*subject-number", "subject_number", "syntax"),
    ("context-object-animacy", "object_animacy", "semantics"),
    ("context-object-gender", "object_gender", "semantics"),
    ("context-subject-animacy", "subject_animacy", "semantics"),
    ("context-subject-gender", "subject_gender", "semantics"),
    ("context-verb-causative", "causative_inchoative_alternation", "syntax"),
    ("context-verb-dynamic", "dynamic_verbs", "semantics"),
    # Texts.
    ("coref*", "coreference", "discourse"),
    ("bridging*", "bridging", "discourse"),
    ("rst-*", "rhetorical_structure", "discourse"),
    ("gum-rst-*", "rhetorical_structure", "discourse"),
    ("drt-*", "discourse_relations", "discourse"),
    ("pdtb*", "discourse_relations", "discourse"),
    ("discourse-connective*", "discourse_connectives", "discourse"),
    ("next-sentence*", "next_sentence_prediction", "discourse"),
    ("*ordering", "sentence_order", "discourse"),
    # Reasoning (oLMpics, arXiv 1912.13283).
    ("olmpics-antonym*", "antonym_negation", "reasoning"),
    ("olmpics-coffee*", "always_never", "reasoning"),
    ("olmpics-compositional*", "multi_hop_composition", "reasoning"),
    ("olmpics-composition*", "encyclopedic_composition", "reasoning"),
    ("olmpics-conjunction*", "property_conjunction", "reasoning"),
    ("olmpics-hypernym*", "taxonomy_conjunction", "reasoning"),
    ("olmpics-*age*", "age_comparison", "reasoning"),
    ("olmpics-size*", "object_comparison", "reasoning"),
    ("olmpics-*", "reasoning", "reasoning"),
    ("semantoneg*", "negation", "reasoning"),
    ("bioscope-*", "negation", "reasoning"),
    ("sherlock-*", "negation", "reasoning"),
    ("negation*", "negation", "reasoning"),
    ("speculation*", "speculation", "reasoning"),
)
"""Pattern of a whole name, phenomenon, competence; the first that fits decides.

Names are in lower case, with ``-`` for ``_``.
"""

_FALLBACK: Competence = "syntax"


def place(file_stem: str, term: str = "", field: str = "") -> tuple[str, Competence]:
    """Return phenomenon and competence of a file.

    Args:
        file_stem: name of the file without suffix.
        term: the corpus's own name of the phenomenon, if it gives one.
        field: the corpus's own name of the competence, if it gives one.
    """
    by_name = _known(term.replace(" ", "_")) if term else None
    by_name = by_name or _known(file_stem)
    phenomenon = term or (by_name[0] if by_name else file_stem.lower())
    stated = field.lower().replace("/", "_").split("_")[0]
    for competence in COMPETENCES:
        if stated == competence:
            return phenomenon, competence
    return phenomenon, by_name[1] if by_name else _FALLBACK


def place_of_any(*names: str) -> tuple[str, Competence]:
    """Return phenomenon and competence of the first of *names* that is known, else of the first."""
    return next(filter(None, map(_known, names)), None) or place(names[0])


def _known(name: str) -> tuple[str, Competence] | None:
    lowered = name.lower()
    hyphenated = lowered.replace("_", "-")
    for pattern, phenomenon, competence in _BY_PATTERN:
        if fnmatchcase(hyphenated, pattern):
            return phenomenon, competence
    for word, phenomenon, competence in _BY_WORD:
        if word in lowered:
            return phenomenon, competence
    return None
