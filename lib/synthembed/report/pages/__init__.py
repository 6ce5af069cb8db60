"""Pages to look at: the report's sections, its figures as SVG with words, and the site."""
