"""Whether a warm start each morning is as good as a training from nothing, and what it costs."""
