"""Searches: CMA-ES for the rules' parameters and an actor's prices, equal search of the learners' hyperparameters."""
