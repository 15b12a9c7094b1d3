"""How good each version is, from labels that come late and can change: counts that are the same in whatever order."""
