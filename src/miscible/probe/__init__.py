"""Internals: what every layer of a model knows, with probes and without.

`miscible.probe.contract` says what a data set is; `miscible.probe.plan.ProbePlan` prepares a sweep;
`miscible.probe.run.probe_model` probes one model.
"""
