"""The network: HTTP in, carriers and callbacks out, and the only place that wires the parts together."""
