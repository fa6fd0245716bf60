"""The champion behind HTTP: recommendations adapted to a user within the request."""
