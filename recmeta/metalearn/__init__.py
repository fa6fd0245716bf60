"""Meta-learning: learners, networks, adaptation and the trainer."""
