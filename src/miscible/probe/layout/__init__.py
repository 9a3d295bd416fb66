"""What is the same for every model: items, folds, control labels, bags of words."""
