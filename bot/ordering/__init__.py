"""From what was typed or clicked to an order that may be drawn: options, preferences, rules and limits."""
