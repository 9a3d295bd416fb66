"""From fitted probes to rows: scores, intervals, baselines, selectivity, where along depth."""
