"""Evidence candidates: which items to ask a new user about, so that the answers teach most.

Read `strategy.py` first: what a strategy is and how the next questions come out of it. Each
strategy is a small file; `questionnaire.py` learns what all of them need from the training users.
"""
