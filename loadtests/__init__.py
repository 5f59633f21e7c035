"""Load on a running gateway: an open-loop generator, and scenarios for Locust; see docs/load-testing.md."""
