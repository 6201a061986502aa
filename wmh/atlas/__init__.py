"""White-matter regions: their atlases, and the registration that carries them to a subject."""
