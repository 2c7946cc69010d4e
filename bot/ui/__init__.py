"""What is seen and pressed: cards, buttons, menus, forms, suggestions, and words for what went wrong."""
