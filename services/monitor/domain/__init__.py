"""The judging of drift: pure code over events, with event time as its only clock."""
