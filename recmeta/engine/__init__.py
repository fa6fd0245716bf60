"""One function for many keys, in this process, in several of this machine, or on a Ray cluster."""
