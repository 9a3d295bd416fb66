"""Effects of the two models of a merge, of what is known of them, and of what passes between."""
