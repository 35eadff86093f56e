"""The plugin wing: serve interfaces to a host."""
