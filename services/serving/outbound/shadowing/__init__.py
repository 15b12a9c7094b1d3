"""A version that runs beside the one that answers: in a child process at idle priority, fed by a bounded ring."""
