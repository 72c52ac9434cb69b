"""The checks, one module for each group or half of one. A module that lies here is found by the register.

Comes in: a `Site`. Goes out: verdicts. Nothing is changed here; what may be put right hangs on a verdict.
"""
