"""What people see and press: cards, buttons, menus, forms, suggestions and error messages."""
