"""Answers to requests: the champion, kept up to date, adapts and ranks within the request."""
