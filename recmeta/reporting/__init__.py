"""What a run found, as Markdown and plots."""
