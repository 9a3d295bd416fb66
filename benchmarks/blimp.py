"""One BLiMP paradigm of each of its twelve phenomena, out of the shared archive."""

from __future__ import annotations

import zipfile
from pathlib import Path

PARADIGMS = (
    "adjunct_island", "anaphor_number_agreement", "animate_subject_trans",
    "determiner_noun_agreement_with_adj_irregular_1", "ellipsis_n_bar_1",
    "existential_there_quantifiers_1", "expletive_it_object_raising",
    "irregular_past_participle_verbs", "npi_present_1", "principle_A_domain_1",
    "regular_plural_subject_verb_agreement_2", "wh_questions_subject_gap",
)  # fmt: skip


def unpack(probing: Path, folder: Path, pairs: int | None = None) -> None:
    """Write the twelve files, or their first *pairs* lines, into *folder*.

    Args:
        probing: the shared folder of probing data.
        folder: made if it is missing.
        pairs: of each paradigm; all if None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(probing / "blimp" / "BLiMP.zip") as archive:
        for name in PARADIGMS:
            lines = archive.read(f"data/{name}.jsonl").splitlines(keepends=True)
            (folder / f"{name}.jsonl").write_bytes(b"".join(lines[:pairs]))
