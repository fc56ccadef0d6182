def vote_on_predictions(*a): return {}
def vote_on_wrong_classes(*a): return {}
