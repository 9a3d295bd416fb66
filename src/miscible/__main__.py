"""``python -m miscible``."""

from __future__ import annotations

from miscible.cli import main

if __name__ == "__main__":
    main()
