from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analyse.layered import layered_study
from miscible.analyse import Resampling, depth_profile

QUICK = Resampling(resamples=300)


def test_a_phenomenon_that_ends_early_has_an_early_centre() -> None:
    lost = {("merge", "islands"): (range(6, 12), 0.25), ("a", "islands"): (range(6), 0.25)}
    profile = depth_profile(layered_study(0, lost, items=200), options=QUICK)
    assert len(profile) == 4 * 3
    held = profile[profile["unit"] == "islands"].set_index("family")
    assert held.loc["merge", "centre"] < 4 < 7 < held.loc["a", "centre"]
    assert held.loc["merge", "best"] < 6 <= held.loc["a", "best"]
    assert held.loc["merge", "best_high"] < 6 <= held.loc["a", "best_low"]
    assert (profile["centre_low"] <= profile["centre"]).all()
    assert (profile["centre"] <= profile["centre_high"]).all()
    assert (profile["best_low"] <= profile["best"]).all()
    assert (profile["best"] <= profile["best_high"]).all()


def test_layers_are_named_by_their_index_and_collapsed_models_are_left_out() -> None:
    study = layered_study(1, items=60, layers=4)
    every_other = replace(study, items=study.items.assign(layer=3 * study.items["layer"]))
    plain = depth_profile(study, options=QUICK)
    spread = depth_profile(every_other, collapsed=["merge"], options=QUICK)
    assert set(spread["family"]) == {"base", "a", "b"}
    plain = plain[plain["family"] != "merge"]
    for name in ("centre", "centre_low", "best", "best_high", "last"):
        np.testing.assert_allclose(spread[name].astype(float), 3 * plain[name].astype(float))


def test_one_layer_has_no_depth() -> None:
    assert depth_profile(layered_study(1, items=20, layers=1), options=QUICK).empty


def test_layers_that_are_as_good_as_the_best_might_be_it() -> None:
    study = layered_study(1, items=40, layers=3)
    items = study.items
    first = items[items["layer"] == 0].drop(columns="layer")
    same = pd.concat([first.assign(layer=layer) for layer in range(3)], ignore_index=True)
    profile = depth_profile(replace(study, items=same), options=QUICK)
    assert set(profile["best"]) == {0.0}
    assert set(profile["best_high"]) == {2.0}
    assert set(profile["centre"]) == {1.0}
