"""A learned policy of what to ask a new user, fitted by reinforcement on simulated users."""
