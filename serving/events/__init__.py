"""Events as they happen: what POST /events accepts, the queue that keeps them, and the consumer that applies them."""
