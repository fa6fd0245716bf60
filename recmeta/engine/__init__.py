"""Running one function for many keys: in this process, in several processes, or on a Ray
cluster."""
