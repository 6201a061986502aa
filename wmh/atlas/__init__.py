"""White-matter regions, and how they are carried to a subject."""
