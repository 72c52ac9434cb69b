"""Docker, and the only place that talks to it.

Comes in: typed calls. Goes out: plain values or an `EngineError`. Every call has a time-out and runs off the
event loop; what is not ours by its label is never changed.
"""
