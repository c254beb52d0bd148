"""The page for people, below /ui: plain HTML from templates. Everything works without JavaScript."""
