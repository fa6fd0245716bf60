"""What meta-training begins with: factors, another model, another data set's content."""
