"""Who may ask, how much and in what form; what is answered otherwise."""
