"""From rows to conclusions: paired differences, correlations, dose-response and verdicts."""

from __future__ import annotations

from miscible.analyse.collapse import collapsed_merges
from miscible.analyse.competences import CompetenceScores, competence_scores
from miscible.analyse.depth_distance import depth_distance
from miscible.analyse.depth_maps import depth_maps
from miscible.analyse.depth_profile import depth_profile
from miscible.analyse.dose_response import dose_response
from miscible.analyse.findings import findings
from miscible.analyse.gain import retained_gains
from miscible.analyse.matched import methods_at_dose
from miscible.analyse.multiplicity import benjamini_hochberg, holm
from miscible.analyse.overall import Verdict, overall
from miscible.analyse.paired import paired_differences
from miscible.analyse.power import detectable_difference, items_needed
from miscible.analyse.ranks import rank_correlations
from miscible.analyse.resample import Resampling
from miscible.analyse.standing import Standing, standings
from miscible.analyse.summary import Analysis, analyse
from miscible.analyse.tables import StudyTables
from miscible.analyse.verdicts import MergeVerdict, verdicts

__all__ = [
    "Analysis",
    "CompetenceScores",
    "MergeVerdict",
    "Resampling",
    "Standing",
    "StudyTables",
    "Verdict",
    "analyse",
    "benjamini_hochberg",
    "collapsed_merges",
    "competence_scores",
    "depth_distance",
    "depth_maps",
    "depth_profile",
    "detectable_difference",
    "dose_response",
    "findings",
    "holm",
    "items_needed",
    "methods_at_dose",
    "overall",
    "paired_differences",
    "rank_correlations",
    "retained_gains",
    "standings",
    "verdicts",
]
