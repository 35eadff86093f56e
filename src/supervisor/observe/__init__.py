"""Adapters: who is told what happens."""
