"""Published protocols, run by one command: who is cold, what is asked, which learners compete."""
