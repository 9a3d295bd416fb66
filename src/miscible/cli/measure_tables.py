"""What ``miscible measure`` prints: models, pairs, a matrix, parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miscible.cli.output import SHORT, print_table, say, terminal_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from miscible.measure.contract import Value
    from miscible.measure.result import Measurement, ModelResult

OVERVIEW = {
    "task_vector_cosine_similarity": "cosine",
    "task_vector_magnitude_ratio": "ratio",
    "layerwise_effective_rank_mergeability_score": "rank",
    "right_subspace_overlap_top_k": "subspace",
    "sign_conflict_rate": "conflict",
}
"""Metrics of the table where none is chosen, and their columns."""
WIDEST_MATRIX = 12
MOST_ROWS = 30


def print_measurement(found: Measurement) -> None:
    """Print the models, and the pairs as a matrix or a list, by parts where there are any."""
    short = short_names([model.name for model in found.models])
    _print_models(found.models, short)
    shown = list(found.metrics)
    if set(OVERVIEW) < set(shown):
        shown = list(OVERVIEW)
    sound = [model.name for model in found.models if model.status == "ok"]
    if len(shown) == 1 and 2 < len(sound) <= WIDEST_MATRIX:
        _print_matrix(found, shown[0], sound, short)
    elif len(sound) > 1:
        _print_pairs(found, shown, short)
    if found.by is not None and len(sound) > 1:
        _print_parts(found, shown[0], short)
    _print_calibration(found, short)
    if len(sound) > 1 and len(shown) < len(found.metrics):
        say(
            f"{len(found.metrics)} metrics were measured; '--metrics' chooses, '--format json' "
            "and '--output' give all of them."
        )
    for model in found.models:
        if model.status != "ok":
            say(f"{model.name}: {model.reason}", failed=True)
    for sentence in found.not_run():
        say(sentence, failed=True)


def _print_calibration(found: Measurement, short: dict[str, str]) -> None:
    rows = [
        [line.metric.replace("_", " "), *map(_figure, (line.between, line.fold_sd, line.half_sd))]
        for line in found.stability_by_metric()
    ]
    if rows:
        part = f"1/{found.stability[0].folds} of them"
        columns = ["metric", "between pairs", part, "half"]
        print_table("Standard deviation: between pairs, and over draws of data", columns, rows)
    for held in found.calibration.data if found.calibration is not None else ():
        of = f", {short[held.owner]}'s own" if held.owner else ""
        tokens = f" of {held.tokens // held.samples} tokens" if held.tokens else ""
        say(f"Run over {held.name}{of}: {held.samples} samples{tokens}, key {held.key[:12]}.")


def _print_models(models: Sequence[ModelResult], short: dict[str, str]) -> None:
    rows = []
    for model in models:
        share = max(model.layers.items(), key=lambda held: held[1], default=("", 0.0))[0]
        rows.append(
            [
                short[model.name],
                _layer(share, model.layers),
                model.status,
                _figure(model.norm),
                _figure(model.relative_distance),
                f"{model.coverage:.1%}",
            ]
        )
    print_table(
        "Models: how far they went from the base",
        ["model", "most in", "status", "norm", "norm / base", "shared"],
        rows,
        text=3,
    )


def _layer(scope: str, scopes: Iterable[str]) -> str:
    """Return a layer by its number alone where no other stack of layers has one."""
    stacks = {each.rpartition(".")[0] for each in scopes if each.rpartition(".")[2].isdigit()}
    stack, _, number = scope.rpartition(".")
    return f"layer {number}" if number.isdigit() and stacks == {stack} else scope


def _print_pairs(found: Measurement, shown: Sequence[str], short: dict[str, str]) -> None:
    first = shown[0]
    pairs = [pair for pair in found.pairs if pair.metrics[first].status in ("ok", "undefined")]
    pairs.sort(key=lambda pair: -_sortable(pair.metrics[first]))
    rows = [
        [short[pair.a], short[pair.b], *(_cell(pair.metrics[name]) for name in shown)]
        for pair in pairs[:MOST_ROWS]
    ]
    columns = [OVERVIEW.get(name, name) for name in shown]
    names = 2 * (3 + min(SHORT, max(map(len, short.values()))))
    wide = names + sum(len(column) + 3 for column in columns) > terminal_width()
    if wide:  # a column for each would not fit: a row for each
        rows = []
        for pair in pairs[:MOST_ROWS]:
            told = [name for name in shown if pair.metrics[name].status != "excluded"]
            for name in told:  # both names once, beside the first
                models = [short[pair.a], short[pair.b]] if name == told[0] else ["", ""]
                rows.append([*models, name, _cell(pair.metrics[name])])
        columns = ["metric", "value"]
    print_table(
        f"Pairs, by {first.replace('_', ' ')}, the highest first",
        ["model", "other", *columns],
        rows,
        text=3 if wide else 2,
    )
    if len(pairs) > MOST_ROWS:
        say(f"{len(pairs) - MOST_ROWS} more pairs are in '--format json'.")
    say("These are measurements, not a forecast of what a merge will score.")


def _print_matrix(
    found: Measurement, metric: str, sound: Sequence[str], short: dict[str, str]
) -> None:
    values = {(pair.a, pair.b): pair.metrics[metric] for pair in found.pairs}
    values |= {
        (pair.b, pair.a): pair.reverse.get(metric, pair.metrics[metric]) for pair in found.pairs
    }
    rows = [
        [
            str(number),
            short[one],
            *("" if one == other else _cell(values[one, other]) for other in sound),
        ]
        for number, one in enumerate(sound, 1)
    ]
    columns = ["", "model", *(str(number) for number in range(1, len(sound) + 1))]
    print_table(metric.replace("_", " "), columns, rows, text=2)


def _print_parts(found: Measurement, metric: str, short: dict[str, str]) -> None:
    pairs = [pair for pair in found.pairs if pair.scopes]
    scopes = dict.fromkeys(scope for pair in pairs for scope in pair.scopes)
    rows = []
    for scope in scopes:
        held = [(pair, pair.scopes[scope].get(metric)) for pair in pairs if scope in pair.scopes]
        known = [(value.value, pair) for pair, value in held if value and value.status == "ok"]
        if not known:
            status = next((value.status for _, value in held if value), "")
            rows.append([scope, status, "", "", ""])
            continue
        low, high = min(known, key=lambda k: k[0]), max(known, key=lambda k: k[0])
        mean = sum(value for value, _ in known) / len(known)
        extreme = f"{short[high[1].a]}, {short[high[1].b]}"
        rows.append([scope, extreme, _figure(mean), _figure(low[0]), _figure(high[0])])
    print_table(
        f"{metric.replace('_', ' ')} by {found.by}, over {len(pairs)} pairs",
        [str(found.by), "highest of", "mean", "lowest", "highest"],
        rows,
        text=2,
    )


def _cell(value: Value) -> str:
    return _figure(value.value) if value.status == "ok" else value.status


def _figure(value: float) -> str:
    if value != value:
        return ""
    return f"{value:.3f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.2g}"


def _sortable(value: Value) -> float:
    return value.value if value.status == "ok" else float("-inf")


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return the shortest last parts of references that tell them apart."""
    for parts in range(1, 1 + max(name.count("/") + 1 for name in names)):
        found = {name: "/".join(name.rstrip("/").split("/")[-parts:]) for name in names}
        if len(set(found.values())) == len(names):
            return found
    return {name: name for name in names}
