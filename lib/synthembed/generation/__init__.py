"""Requests → an LLM's replies, in the paper's two steps (Sec. 3.1, 4.1; Tables 8-13). Notebook 01."""
