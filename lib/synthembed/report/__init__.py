"""Scores → a page: cells, verdicts, claims, tables, figures. Reads results only. Notebook 07."""
