"""From alarms of many cameras to incidents: which are beyond chance, which belong together, and what they share."""
