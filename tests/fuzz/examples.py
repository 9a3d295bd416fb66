"""How many examples each fuzz test tries: few by default, as many as one likes by hand."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("MISCIBLE_FUZZ_EXAMPLES", "200"))
"""Set it to 20000 for a search of some minutes."""

fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck),
    derandomize=EXAMPLES <= 200,  # a build that fails tells of the change, not of its luck
)  # fmt: skip
