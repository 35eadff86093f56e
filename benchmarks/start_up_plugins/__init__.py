"""The least that a plugin in Python can be, by what it is made with; each serves `proto.KV` and prints the handshake."""
