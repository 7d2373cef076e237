"""Tables, pages and pictures of scores."""
