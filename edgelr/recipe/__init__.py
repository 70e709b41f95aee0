"""What a user asks for: the schema of a recipe, its loading with every fault named by line, and a starter."""
