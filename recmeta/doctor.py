"""Whether this installation, this machine and these stores are fit for the pipeline."""
