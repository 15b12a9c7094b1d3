"""The roads into trainer: the monitor's requests and labeling's versions, programs, people."""
