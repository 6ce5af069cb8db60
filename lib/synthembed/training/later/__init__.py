"""Recipes of papers after this one, as settings of the profile that are off by default."""
