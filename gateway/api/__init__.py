"""The HTTP API: Plivo's surface and ours, one file per resource."""
