"""Grafana's dashboards as code: what they show is in `boards`, how it becomes JSON in `panels`."""
