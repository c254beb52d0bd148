"""From a push to production: a release that is tested, proved on one stage, and brought to the next by a person."""
