"""`make bench-monitor`: how often the monitor speaks when nothing happens, and how soon when something does."""
