"""German grammar and lexicon of the built-in suite."""
