"""Drift detectors, one file each with its source, behind one Protocol."""
