"""The process behind a mount, and all of these on this machine.

`lifecycle` is a mount from its first look at the source to its end; `mounts` finds mounts, reads
their status and takes them away. `logs` says where messages go, `vitals` what a process tells of
itself.
"""
