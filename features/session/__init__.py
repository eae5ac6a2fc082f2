"""Session features: what a user did last, computed by one function for the training set and for a request.

The state of a user is the list of the newest events, in the order of (timestamp, event id). States are merged: the
newest events of both, and every outcome that one of them knows. Merging in any order, and more than once, gives the
same state, so duplicates, late events and events out of order leave no trace.
"""
