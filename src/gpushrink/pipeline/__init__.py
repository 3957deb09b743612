"""The two stories, pack and unpack, told with the floors below."""
