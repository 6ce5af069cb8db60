"""Files that others wrote: opened, and read as rows or lines, whole or not at all."""
