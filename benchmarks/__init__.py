"""znfs measured against the libraries and file systems it competes with; see `__main__`."""
