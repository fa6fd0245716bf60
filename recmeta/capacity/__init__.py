"""How long a log of a given size takes, on what machines, and what that costs."""
