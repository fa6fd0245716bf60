"""Whether generated users of rare profiles help, and how near they come to real ones."""
