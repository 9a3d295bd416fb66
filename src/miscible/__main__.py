"""Start of the command line: what must be set before anything is imported."""

from __future__ import annotations

import gc
import os


def main() -> None:
    """Run the command line; start-up is a third of what a merge of small models takes."""
    # Pydantic looks through all installed packages for plugins, of which nothing here needs one.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(20_000)  # what imports make lives to the end

    from miscible.cli import main as run

    run()


if __name__ == "__main__":
    main()
