"""The simulated cohort: people drawn from templates or real heads, in the challenge's layout."""
