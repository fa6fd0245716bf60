"""What all lists together show of the catalogue."""
