"""From an order's news and its end to the person: followed, shown on its card, sent whichever way is open."""
