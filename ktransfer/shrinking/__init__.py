"""The search for the smallest artifact within the allowed loss of accuracy, and its page."""
