"""Off-policy estimates of what another policy would have earned, from logs of the lists that one
policy served."""
