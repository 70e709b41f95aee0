"""Stage compress: write the planned factors into the model."""
