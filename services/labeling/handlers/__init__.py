"""What labeling does: one use case a file, the same for every transport."""
