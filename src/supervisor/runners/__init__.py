"""Adapters: where a plugin runs."""
