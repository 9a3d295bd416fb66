"""What sets the insides of two models apart, without probes."""
