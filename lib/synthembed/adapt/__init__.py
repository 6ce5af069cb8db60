"""The paper's method on a reader's own documents: queries written for them, training, before and after."""
