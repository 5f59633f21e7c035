"""The pure core: which number sends a message, and when. No clock, no chance of its own, no await, no I/O."""
