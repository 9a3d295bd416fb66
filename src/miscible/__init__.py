"""miscible: will fine-tuned models merge, how should they, and what did the merge do?"""

from __future__ import annotations

import os

# Read by OpenMP when torch is loaded. Threads that spin while they wait slow a machine with other
# work to a crawl (measured: eightfold on two busy cores); on an idle one it makes no difference.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
