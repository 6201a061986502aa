"""From a study file to its results: stages, their order, their record, the page that shows them."""
