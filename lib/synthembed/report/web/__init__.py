"""For a browser: the report, section by section, its figures as SVG with words, and the site."""
