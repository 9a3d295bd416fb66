"""miscible: will fine-tuned models merge, how should they, and what did the merge do?"""

from __future__ import annotations

__version__ = "0.1.0"
