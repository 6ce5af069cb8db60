"""Replies → a corpus: examples, filters, analysis, contamination (Sec. 3.1; Figure 2, App. B). Notebook 02."""
