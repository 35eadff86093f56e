"""yamux: many byte streams on one connection, as hashicorp/yamux frames them."""
