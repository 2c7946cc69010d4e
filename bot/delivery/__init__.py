"""From an order's events and end to the person: following it, showing its card, sending it whichever way is open."""
