"""Contrastive fine-tuning with gradient caching and LoRA (Sec. 3.2, 4.2, App. A). Notebook 03."""
