"""The conformance table, a file for each part of the protocol; `tests.conformance.requests` joins them."""
