"""What `bootstrap.py` does, one module a matter; the standard library only.

Comes in: a machine in any state, also one that an earlier run left half done. Goes out: the same machine
with what was missing. Every `ensure_*` looks before it acts, can be run again, and returns one sentence
that says what it found or did. What never happens here: removing a package, replacing a file that is not
ours, changing a setting of apt, pip or npm, or running a file that the person can write as root.
"""
