"""The search page of one index, and the same as JSON. Every answer is a GET, and none of them changes anything."""
