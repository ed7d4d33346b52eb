"""What a mount does when its store, its line or its disk fails; `docs/RELIABILITY.md` is its
report, written by `python -m tests.faults`.
"""
