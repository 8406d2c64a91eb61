"""Crystal structure prediction: compositions of a test split, structures for them from models and files."""
