"""Where the monitor's rows are kept."""
