"""How numbers are computed: precision, threads, memory, and hand-written derivatives."""
