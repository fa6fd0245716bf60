"""Speed against peers: one module or package per benchmark, `recmeta bench` runs them."""
