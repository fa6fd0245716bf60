"""Published protocols, run by one command: their cold users, their metrics and the learners that
compete."""
