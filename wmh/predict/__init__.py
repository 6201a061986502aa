"""One person's scan, or a folder of them: lesions, regions, burden and a page to read."""
