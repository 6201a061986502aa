"""Numbers from predictions: measures, burden, statistics, claims, figures."""
