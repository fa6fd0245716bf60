"""How numbers are computed: precision, threads, memory, derivatives written out."""
