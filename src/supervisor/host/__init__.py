"""The host wing: supervisor, plugin handle, one life."""
