"""Who may send requests, how many and in what form, and how others are refused."""
