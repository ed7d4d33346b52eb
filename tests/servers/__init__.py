"""Real servers for tests, each a context manager on free ports of 127.0.0.1.

One that cannot be started here raises NotAvailable, which says why; a test then skips by name.
"""
