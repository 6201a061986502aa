"""The simulated cohort: people made from a template or real heads, in the challenge's layout."""
