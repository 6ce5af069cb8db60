"""Labelled and weakly labelled data, and the mixture that is trained on (Sec. 4.1, App. A). Notebook 03."""
