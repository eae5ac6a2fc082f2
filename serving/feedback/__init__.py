"""The feedback log: what the service showed, and what came of it, as partitions that `ingest` reads.

progress        how far the queue was read, and which days change yet
received        events by day, each once with every label that is known
entities        users and items with the profiles of the last ingested tables
partitions      events with the context in which they were shown, as rows of the schema; the features as served
collector       all of it, in an order that a kill at any time leaves whole
"""
