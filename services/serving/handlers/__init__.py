"""One use case a file; every transport calls these."""
