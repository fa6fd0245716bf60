"""What several steps, and the library's front door, do alike."""
