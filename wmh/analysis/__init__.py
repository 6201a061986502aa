"""Numbers from predictions: measures, burden, agreement, statistics and claims."""
