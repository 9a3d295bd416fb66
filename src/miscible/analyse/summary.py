"""Everything that can be concluded from a study, computed once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from miscible.analyse.collapse import collapsed_merges
from miscible.analyse.competences import CompetenceScores, competence_scores
from miscible.analyse.depth_distance import depth_distance
from miscible.analyse.depth_maps import depth_maps
from miscible.analyse.depth_profile import depth_profile
from miscible.analyse.dose_response import dose_response
from miscible.analyse.gain import retained_gains
from miscible.analyse.matched import methods_at_dose
from miscible.analyse.overall import overall
from miscible.analyse.paired import paired_differences
from miscible.analyse.ranks import rank_correlations
from miscible.analyse.resample import Resampling
from miscible.analyse.standing import standings
from miscible.analyse.taxonomy import Unit, chosen_unit

if TYPE_CHECKING:
    import pandas as pd

    from miscible.analyse.tables import StudyTables


@dataclass(frozen=True)
class Analysis:
    """Results of the analyses of one study; each frame's columns are named beside it.

    Attributes:
        options: resampling behind all intervals and p values.
        unit: what internals are averaged over in *ranks*.
        behaviour: paired differences of behaviour (`paired.DifferenceRow`).
        internals: paired differences of internals, the mean over layers.
        layers: paired differences of internals at every layer, with at most 1999 flips.
        standings: where each merge stands on each task (`standing.StandingRow`).
        gains: what each merge keeps of each parent's gain (`gain.GainRow`).
        overall: each merge against its best parent (`overall.OverallRow`).
        doses: dose-response curves of behaviour (`dose_response.DosePoint`).
        inner_doses: the same curves of internals, the mean over layers.
        matched: methods at the same dose (`matched.MatchedRow`).
        maps: merge minus parent by layer and phenomenon (`depth_maps.DepthRow`).
        dataset_maps: the same by layer and data set.
        profile: where along depth each family knows what (`depth_profile.ProfileRow`).
        distances: of the curves of merges and parents (`depth_distance.DistanceRow`).
        competences: mean scores and winning rates of all models.
        ranks: rank correlations of behaviour and internals (`ranks.RankRow`).
        collapsed: collapsed merges and why.
    """

    options: Resampling
    unit: Unit
    behaviour: pd.DataFrame
    internals: pd.DataFrame
    layers: pd.DataFrame
    standings: pd.DataFrame
    gains: pd.DataFrame
    overall: pd.DataFrame
    doses: pd.DataFrame
    inner_doses: pd.DataFrame
    matched: pd.DataFrame
    maps: pd.DataFrame
    dataset_maps: pd.DataFrame
    profile: pd.DataFrame
    distances: pd.DataFrame
    competences: CompetenceScores
    ranks: pd.DataFrame
    collapsed: dict[str, str]


def analyse(tables: StudyTables, options: Resampling | None = None) -> Analysis:
    """Run every analysis on a study; a study without some kind of row gives empty frames."""
    options = options or Resampling()
    behaviour = paired_differences(tables, domain="behaviour", layer="mean", options=options)
    unit, collapsed = chosen_unit(tables), collapsed_merges(tables)
    few = replace(options, resamples=min(options.resamples, 1000))
    return Analysis(
        options=options,
        unit=unit,
        behaviour=behaviour,
        internals=paired_differences(tables, domain="internals", layer="mean", options=options),
        layers=paired_differences(tables, domain="internals", options=_coarse(options)),
        standings=standings(behaviour, tables.parents, alpha=options.alpha),
        gains=retained_gains(tables, options=options),
        overall=overall(tables, options=options),
        doses=dose_response(tables, options=options),
        inner_doses=dose_response(tables, domain="internals", options=_coarse(options)),
        matched=methods_at_dose(tables, options=options),
        maps=depth_maps(tables, options=few),
        dataset_maps=depth_maps(tables, unit="dataset", options=few),
        profile=depth_profile(tables, collapsed=list(collapsed), options=few),
        distances=depth_distance(tables, collapsed=list(collapsed), options=few),
        competences=competence_scores(tables, options=few),
        ranks=rank_correlations(tables, unit=unit, options=options),
        collapsed=collapsed,
    )


def _coarse(options: Resampling) -> Resampling:
    # Hundreds of layers are read by their false discovery rate, which needs no extreme p value.
    return replace(options, flips=min(options.flips, 1999))
